//! What it takes to plan a change over a thousand applications: an hour of delay window, a setpoint each minute, a forecast of demand each.
//!
//! Every other application gives half of what it has away, to the one beside it. Measured is what the planner does for all of them, the second pass
//! over each finished course included, in CPU time of one thread.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use quotary_decide::forecast::QUANTILE_LEVELS;
use quotary_decide::shape::phase::{Demand, PhasedPlan, SLEW_OF_MEAN, Stretch, Transition, check, phase};
use serde::Serialize;

use super::report::{Gate, Good, Line, median, progress, short};
use super::{ROUNDS, cpu};

/// Applications of the change.
const APPLICATIONS: usize = 1_000;
const START_MS: u64 = 1_800_000_000_000;
const WINDOW_S: u64 = 3_600;
const RESOLUTION_S: u64 = 60;
/// A forecast's steps: an hour of five minutes.
const STEPS: u64 = 12;
const STEP_MS: u64 = 300_000;

/// Plans of a change over many applications.
#[derive(Debug, Clone, Serialize)]
pub struct Phasing {
    /// Applications, each with a transition of its own.
    pub applications: usize,
    /// Setpoints of each plan.
    pub setpoints: usize,
    /// Plans that are straight lines, in spite of a forecast: nothing had to be weighed for them.
    pub straight: usize,
    /// Each round.
    pub rounds: Vec<Round>,
    /// Median over the rounds: all plans, ms of CPU time.
    pub plans_ms: f64,
}

/// One round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// How many times everything was planned.
    pub times: usize,
    /// Median over those times, ms.
    pub plans_ms: f64,
}

/// Measures [`ROUNDS`] rounds of `round` each.
///
/// # Errors
/// When there is an application without a plan, or the plans are not what is asked for.
pub(super) fn measure(round: Duration) -> anyhow::Result<Phasing> {
    measure_of(APPLICATIONS, round)
}

fn measure_of(applications: usize, round: Duration) -> anyhow::Result<Phasing> {
    progress(&format!("phasing, plans for {applications} applications over an hour"));
    let all = (0..applications).map(Application::new).collect::<anyhow::Result<Vec<_>>>()?;
    let plans = planned(&all)?;
    seen(&all, &plans)?;
    let rounds = (0..ROUNDS).map(|_| run(&all, round)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Phasing {
        applications,
        setpoints: plans.first().map_or(0, |plan| plan.setpoints().len()),
        straight: plans.iter().filter(|plan| plan.is_straight()).count(),
        plans_ms: median(rounds.iter().map(|round| round.plans_ms)),
        rounds,
    })
}

fn run(all: &[Application], for_so_long: Duration) -> anyhow::Result<Round> {
    let mut plans_ms = Vec::new();
    let started = Instant::now();
    while plans_ms.is_empty() || started.elapsed() < for_so_long {
        plans_ms.push(timed_ms(|| planned(all))?);
    }
    Ok(Round { times: plans_ms.len(), plans_ms: median(plans_ms.iter().copied()) })
}

/// CPU time of this thread that some work takes, ms; what comes of it is thrown away afterwards.
fn timed_ms<T>(work: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<f64> {
    let began = cpu::of_this_thread();
    let done = black_box(work()?);
    let took = cpu::of_this_thread().saturating_sub(began);
    drop(done);
    Ok(took.as_secs_f64() * 1e3)
}

/// An application's transition and what it will want.
struct Application {
    transition: Transition,
    demand: Demand,
}

impl Application {
    /// Number `index`: of two neighbours the first gives half of what it has to the second.
    fn new(index: usize) -> anyhow::Result<Self> {
        let pair = u64::try_from(index)? / 2;
        let half = (128 + 16 * (pair % 61)) << 20;
        let (from, to) = if index.is_multiple_of(2) { (2 * half, half) } else { (half, 2 * half) };
        let transition = Transition {
            from,
            to,
            guarantee: 0,
            starts_at_ms: START_MS,
            effective_at_ms: START_MS + 1000 * WINDOW_S,
            resolution_s: RESOLUTION_S,
            slew_per_s: half * SLEW_OF_MEAN / WINDOW_S,
            freed_permille: 500,
        };
        // About what lies between both limits, with a wave of its own: when it is high, the limit should not be low.
        let stretch = |step: u64| {
            let wave = (0.7 * step as f64 + 1.3 * index as f64).sin();
            let middle = half as f64 * (1.1 + 0.1 * (index % 7) as f64 + 0.3 * wave);
            let at = |step: u64| START_MS + STEP_MS * step;
            let quantiles = QUANTILE_LEVELS.map(|level| middle * (0.85 + 0.3 * level));
            Stretch { from_ms: at(step), until_ms: at(step + 1), quantiles }
        };
        let demand = Demand::new((0..STEPS).map(stretch).collect()).context("a demand that is none")?;
        Ok(Self { transition, demand })
    }
}

fn planned(all: &[Application]) -> anyhow::Result<Vec<PhasedPlan>> {
    all.iter().map(|one| phase(black_box(&one.transition), black_box(&one.demand)).context("no plan")).collect()
}

/// What was measured must be whole plans: a setpoint each minute, to the target, and each passes the second pass once more.
fn seen(all: &[Application], plans: &[PhasedPlan]) -> anyhow::Result<()> {
    ensure!(plans.len() == all.len(), "{} plans for {} applications", plans.len(), all.len());
    for (one, plan) in all.iter().zip(plans) {
        let last = plan.setpoints().last().ok_or_else(|| anyhow!("a plan without setpoints"))?;
        ensure!(plan.setpoints().len() as u64 == WINDOW_S / RESOLUTION_S, "a plan has other setpoints");
        ensure!(last.value == one.transition.to, "a plan ends elsewhere");
        check(plan.transition(), plan.setpoints())?;
    }
    Ok(())
}

impl Phasing {
    /// What must hold.
    pub(super) fn gates(&self) -> Vec<Gate> {
        let name = "plans of 1,000 applications, 60 setpoints";
        vec![Gate::new((name, "ms", self.plans_ms), Good::AtMost, (50.0, 25.0))]
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let what = format!("plans for {} applications, {} setpoints each", self.applications, self.setpoints);
        vec![Line::new(what, format!("{} ms; {} of them are lines", short(self.plans_ms), self.straight))]
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_are_weighed_plans_of_sixty_setpoints() {
        let phasing = measure_of(100, Duration::from_millis(1)).unwrap();
        assert_eq!((phasing.applications, phasing.setpoints, phasing.rounds.len()), (100, 60, ROUNDS));
        // A line costs nothing: few of them, or the figure says little.
        assert!(phasing.straight <= 5, "{phasing:?}");
        assert!(phasing.rounds.iter().all(|round| round.times >= 1 && round.plans_ms > 0.0));
        let gates = phasing.gates();
        assert!(gates.iter().all(|gate| (gate.gate, gate.good) == (50.0, Good::AtMost)));
    }

    #[test]
    fn no_two_applications_next_to_each_other_ask_for_the_same() {
        let all: Vec<Application> = (0..20).map(|index| Application::new(index).unwrap()).collect();
        for pair in all.windows(2) {
            assert!(pair[0].demand != pair[1].demand && pair[0].transition != pair[1].transition);
        }
        let promised = |end: fn(&Transition) -> u64| all.iter().map(|one| end(&one.transition)).sum::<u64>();
        assert_eq!(promised(|one| one.from), promised(|one| one.to), "what one gives the other gets");
    }
}
