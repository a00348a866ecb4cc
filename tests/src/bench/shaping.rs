//! The shaping controller by itself: what is decided for all targets of a host at one tick, without I/O.
//!
//! The targets are halfway through plans of two to four controls, a part of them under pressure; between ticks the
//! readings follow what was written, which is not measured.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use quotary_agent::shape::controller::{
    Actual, CheckedRules, Counters, Now, Phase, Reading, Rules, Shaping as Controller, Value,
};
use quotary_common::cbor::{Bounded, Version};
use quotary_common::envelope::Name;
use quotary_common::id::{DeploymentId, HostId, PlanId};
use quotary_common::plan::{CheckedPlan, Course, OnPressure, Plan, Setpoint, ShapedControl, Target, check};
use serde::Serialize;

use super::ROUNDS;
use super::report::{Gate, Good, Line, median, percentile, progress, short};

/// Targets of the host.
const TARGETS: usize = 200;
const PLAN_MS: u64 = 120_000;
const START_UNIX_MS: u64 = 1_800_000_000_000;
/// Ticks of a plan that are measured: its middle.
const MEASURED: std::ops::Range<u64> = 10..110;

/// The controller's decision for all targets of a host.
#[derive(Debug, Clone, Serialize)]
pub struct Shaping {
    /// Targets of the host.
    pub targets: usize,
    /// Their controls, together.
    pub controls: usize,
    /// Targets under pressure.
    pub targets_under_pressure: usize,
    /// Writes that a tick gave for all of them, on average.
    pub writes_per_tick: f64,
    /// Each round.
    pub rounds: Vec<Round>,
    /// Median over the rounds: half of the ticks took as long at most, ms.
    pub decision_p50_ms: f64,
    /// Median over the rounds: 95 of 100 ticks took as long at most, ms.
    pub decision_p95_ms: f64,
}

/// One round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// Ticks that were measured.
    pub ticks: usize,
    /// Half of them took as long at most, ms.
    pub p50_ms: f64,
    /// 95 of 100 took as long at most, ms.
    pub p95_ms: f64,
}

/// A target and what its kernel shows.
#[derive(Clone)]
struct Shaped {
    plan: CheckedPlan,
    reading: Reading,
    controller: Controller,
    is_pressed: bool,
}

/// Measures [`ROUNDS`] rounds of `round` each.
///
/// # Errors
/// When a plan is refused, or the controller decides nothing: then there is nothing to measure.
pub(super) fn measure(round: Duration) -> anyhow::Result<Shaping> {
    let rules = rules()?;
    let targets = (0..TARGETS).map(|index| shaped(index, &rules)).collect::<anyhow::Result<Vec<_>>>()?;
    let controls = targets.iter().map(|target| target.plan.controls().count()).sum();
    progress(&format!("shaping, decisions for {TARGETS} targets with {controls} controls"));
    let (mut writes, mut ticks) = (0, 0);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (nanoseconds, written) = run(&targets, &rules, round);
        ensure!(written > 0, "the controller wrote nothing");
        writes += written;
        ticks += nanoseconds.len();
        let ms = |percent| percentile(&nanoseconds, percent) as f64 / 1e6;
        rounds.push(Round { ticks: nanoseconds.len(), p50_ms: ms(50), p95_ms: ms(95) });
    }
    Ok(Shaping {
        targets: TARGETS,
        controls,
        targets_under_pressure: targets.iter().filter(|target| target.is_pressed).count(),
        writes_per_tick: writes as f64 / ticks.max(1) as f64,
        decision_p50_ms: median(rounds.iter().map(|round| round.p50_ms)),
        decision_p95_ms: median(rounds.iter().map(|round| round.p95_ms)),
        rounds,
    })
}

/// Plays the plans, again and again, until the time is over: how long each measured tick took, ns, and how many writes
/// they gave.
fn run(targets: &[Shaped], rules: &CheckedRules, round: Duration) -> (Vec<u64>, usize) {
    let until = Instant::now() + round;
    let (mut nanoseconds, mut writes) = (Vec::new(), 0);
    while Instant::now() < until {
        let mut targets = targets.to_vec();
        let mut decisions = Vec::with_capacity(targets.len());
        for tick in 0..MEASURED.end {
            let now = Now { unix_ms: START_UNIX_MS + tick * 1_000, boottime_ms: 1_000_000 + tick * 1_000 };
            let began = Instant::now();
            for target in &mut targets {
                let decision = target.controller.step(Phase::Plan(&target.plan), &target.reading, rules, now);
                decisions.push(black_box(decision));
            }
            let took = began.elapsed();
            if MEASURED.contains(&tick) {
                nanoseconds.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
                writes += decisions.iter().filter(|decision| decision.write.is_some()).count();
            }
            for (target, decision) in targets.iter_mut().zip(decisions.drain(..)) {
                target.follow(decision.write.map(|write| (write.control, write.value)), tick);
            }
        }
    }
    (nanoseconds, writes)
}

impl Shaped {
    /// What the kernel shows after a tick.
    fn follow(&mut self, write: Option<(ShapedControl, Value)>, tick: u64) {
        if let Some((control, value)) = write {
            let actual = match value {
                Value::Unlimited => Actual::Unlimited,
                Value::Value(value) => Actual::Value(value),
            };
            self.reading.actual.insert(control, actual);
            if let (ShapedControl::MemoryHigh, Value::Value(high)) = (control, value) {
                self.reading.memory_current_bytes = self.reading.memory_current_bytes.map(|current| current.min(high));
            }
        }
        // Every fourth stretch of ten ticks presses.
        let pressure = if self.is_pressed && tick / 10 % 4 == 1 { 80 } else { 3 };
        self.reading.memory_pressure_permille = Some(pressure);
    }
}

fn rules() -> anyhow::Result<CheckedRules> {
    let mib = 1 << 20;
    let ceilings = [
        (ShapedControl::CpuQuota, 8_000),
        (ShapedControl::MemoryHigh, 64 * 1024 * mib),
        (ShapedControl::IoReadMax, 2_000 * mib),
    ];
    let rules = Rules { ceilings: ceilings.into(), ..Rules::default() };
    rules.check().map_err(|faults| anyhow!("the rules do not hold together: {faults:?}"))
}

/// One of the targets: memory and CPU share, every second one with a quota, every third one with a disk limit too.
fn shaped(index: usize, rules: &CheckedRules) -> anyhow::Result<Shaped> {
    let part = u64::try_from(index)? % 7;
    let memory_bytes = (200 + 40 * part) << 20;
    let mut targets = vec![(ShapedControl::MemoryHigh, memory_bytes / 2), (ShapedControl::CpuWeight, 40 + part)];
    targets.extend(index.is_multiple_of(2).then_some((ShapedControl::CpuQuota, 4_000 - 100 * part)));
    targets.extend(index.is_multiple_of(3).then_some((ShapedControl::IoReadMax, (1_000 + 10 * part) << 20)));
    let actual = targets.iter().map(|&(control, _)| {
        let shown = if control == ShapedControl::CpuWeight { Actual::Value(100) } else { Actual::Unlimited };
        (control, shown)
    });
    let count = || Some(0);
    let reading = Reading {
        actual: actual.collect(),
        memory_current_bytes: Some(memory_bytes),
        memory_pressure_permille: Some(3),
        cpu_pressure_permille: Some(100),
        io_pressure_permille: Some(10),
        counters: Counters {
            memory_high: count(),
            oom: count(),
            oom_kill: count(),
            nr_throttled: count(),
            throttled_us: count(),
        },
        oomd_limit_permille: Some(600),
        ..Reading::default()
    };
    let plan = plan(index, &targets)?;
    let now = Now { unix_ms: START_UNIX_MS, boottime_ms: 1_000_000 };
    let controller = Controller::begin(&plan, &BTreeMap::new(), &reading, rules, now);
    Ok(Shaped { plan, reading, controller, is_pressed: index.is_multiple_of(10) })
}

fn plan(index: usize, targets: &[(ShapedControl, u64)]) -> anyhow::Result<CheckedPlan> {
    let course = |&(control, value): &(ShapedControl, u64)| {
        let setpoints = Bounded::new(vec![Setpoint { at_ms: START_UNIX_MS + PLAN_MS, value }]);
        setpoints.map(|setpoints| Course { control, setpoints })
    };
    let courses: Option<Vec<Course>> = targets.iter().map(course).collect();
    let plan = Plan {
        version: Version,
        deployment: DeploymentId::new([1; 32]),
        host: HostId::new([2; 32]),
        id: PlanId::new([3; 32]),
        epoch: 1,
        target: Target::Unit(Name::lossy(&format!("service-{index}.service"))),
        generation: 1,
        starts_at_ms: START_UNIX_MS,
        effective_at_ms: START_UNIX_MS + PLAN_MS,
        ends_at_ms: None,
        not_after_ms: START_UNIX_MS + PLAN_MS,
        courses: courses.and_then(Bounded::new).ok_or_else(|| anyhow!("a plan has too many courses"))?,
        on_pressure: OnPressure::Hold,
        hold_ms_max: 600_000,
        overrides: false,
        decision: None,
    };
    Ok(check(plan)?)
}

impl Shaping {
    /// What must hold: the slow ticks, not the median.
    pub(super) fn gates(&self) -> Vec<Gate> {
        let figure = ("controller's decision for 200 targets, p95", "ms", self.decision_p95_ms);
        vec![Gate::new(figure, Good::AtMost, (1.0, 0.25))]
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let what = format!("shaping, decision for {} targets", self.targets);
        let value = format!(
            "p50 {} ms, p95 {} ms; {} controls, {} targets under pressure, {} writes per tick",
            short(self.decision_p50_ms),
            short(self.decision_p95_ms),
            self.controls,
            self.targets_under_pressure,
            short(self.writes_per_tick)
        );
        vec![Line::new(what, value)]
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_are_decisions_halfway_through_plans() {
        let shaping = measure(Duration::from_millis(1)).unwrap();
        assert_eq!((shaping.targets, shaping.controls, shaping.targets_under_pressure), (200, 567, 20));
        assert!((50.0..200.0).contains(&shaping.writes_per_tick), "{}", shaping.writes_per_tick);
        assert!(shaping.rounds.len() == ROUNDS && shaping.rounds.iter().all(|round| round.ticks >= 100));
        assert!(shaping.decision_p95_ms >= shaping.decision_p50_ms && shaping.decision_p50_ms > 0.0);
    }
}
