//! While a plan runs: whether it is to be planned anew, and whether somebody must look.

use super::demand::Demand;
use super::transition::{Refused, Transition};
use super::{PhasedPlan, phase};

/// The line that demand is held against, and the one below which it counts as back: 95 and 80 % of the forecast that the plan was made for.
const LINE: usize = 9;
const CALM: usize = 7;

/// What is tolerated before anything follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance {
    /// Steps in which demand exceeds the planned-for line, until the plan is made anew.
    pub beyond_steps: u32,
    /// How far the actual may be from the setpoint, thousandths of the way.
    pub off_permille: u64,
    /// Steps in which it is farther, until it is looked at.
    pub off_steps: u32,
    /// A plan runs for so long before it is made anew again, and is left alone for so long before its effective time, ms.
    pub dwell_ms: u64,
}

/// Of its delay window a plan runs for such a part before it is made anew again: five minutes of an hour.
const DWELL_OF_WINDOW: u64 = 12;
/// Between what and what that is, ms.
const DWELL_MS: (u64, u64) = (10_000, 300_000);

impl Tolerance {
    /// What is tolerated over a delay window of so many ms.
    pub fn of(window_ms: u64) -> Self {
        let dwell_ms = (window_ms / DWELL_OF_WINDOW).clamp(DWELL_MS.0, DWELL_MS.1);
        Self { beyond_steps: 3, off_permille: 50, off_steps: 3, dwell_ms }
    }
}

/// Where a running course is at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// When it began, Unix ms.
    pub starts_at_ms: u64,
    /// When it ends, Unix ms.
    pub effective_at_ms: u64,
    /// What it asks for now.
    pub setpoint: u64,
    /// How far it goes in all.
    pub distance: u64,
    /// How far off it an actual may always be: what the kernel's rounding and the agent's dead band come to.
    pub slack: u64,
}

/// What accepted evidence told of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// When, Unix ms.
    pub at_ms: u64,
    /// Demand in that step, in the amount's unit; `None` for a gap.
    pub demand: Option<f64>,
    /// The value read back; `None` for a gap.
    pub actual: Option<u64>,
}

/// Why a plan is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Demand left the band that the plan was made for.
    Demand,
    /// The actual is not where the plan has it.
    Actual,
}

/// The actual is off by more than is tolerated: somebody must look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Review {
    /// When that was found, Unix ms.
    pub at_ms: u64,
    /// What was read back.
    pub actual: u64,
    /// What the plan asks for.
    pub setpoint: u64,
}

/// What follows from one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Finding {
    /// The plan is to be made anew ([`Watch::anew`]), for this reason.
    pub replan: Option<Why>,
    /// Somebody must look; told once until the actual is back.
    pub review: Option<Review>,
}

/// What is remembered of a running plan from step to step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watch {
    beyond: u32,
    off: u32,
    told: bool,
}

impl Watch {
    /// Takes a step in; `planned_for` is the demand that the plan was made for.
    ///
    /// Hysteresis: steps count up above the line and are forgotten only below the calmer one. What is to be made anew is told at each step until it
    /// was ([`Watch::begin_anew`]), but for a plan that is nearly over.
    pub fn step(&mut self, running: &Running, planned_for: &Demand, seen: &Seen, tolerance: &Tolerance) -> Finding {
        if !(running.starts_at_ms..running.effective_at_ms).contains(&seen.at_ms) {
            return Finding::default();
        }
        self.count_demand(planned_for, seen);
        let setpoint = running.setpoint;
        let off = seen.actual.filter(|actual| is_off(*actual, running, tolerance));
        if seen.actual.is_some() {
            self.off = if off.is_some() { self.off.saturating_add(1) } else { 0 };
            self.told &= off.is_some();
        }
        let mut finding = Finding::default();
        if let Some(actual) = off.filter(|_| self.off >= tolerance.off_steps && !self.told) {
            self.told = true;
            finding.review = Some(Review { at_ms: seen.at_ms, actual, setpoint });
        }
        finding.replan = if running.effective_at_ms - seen.at_ms <= tolerance.dwell_ms {
            None
        } else if off.is_some() && self.off >= tolerance.off_steps {
            Some(Why::Actual)
        } else {
            (self.beyond >= tolerance.beyond_steps).then_some(Why::Demand)
        };
        finding
    }

    /// Counts anew: the plan was made anew, or cannot be.
    pub fn begin_anew(&mut self) {
        (self.beyond, self.off) = (0, 0);
    }

    fn count_demand(&mut self, planned_for: &Demand, seen: &Seen) {
        let (Some(demand), Some(stretch)) = (seen.demand, planned_for.at(seen.at_ms)) else { return };
        if demand > stretch.quantiles[LINE] {
            self.beyond = self.beyond.saturating_add(1);
        } else if demand <= stretch.quantiles[CALM] {
            self.beyond = 0;
        }
    }

    /// The plan anew: from what is (the actual, or where the plan stands) at the next instant that lies a whole number of seconds before the
    /// effective time, to the same target at the same time; what the old plan has not freed yet is freed by the new one, where
    /// the slew allows that, and as by a straight line where not.
    ///
    /// # Errors
    /// [`Refused::TooSoon`] when the slew no longer reaches the target in time: a review, not a later effective time, follows.
    pub fn anew(
        running: &PhasedPlan,
        now_ms: u64,
        actual: Option<u64>,
        demand: &Demand,
    ) -> Result<PhasedPlan, Refused> {
        let old = running.transition();
        let now_ms = now_ms.max(old.starts_at_ms);
        let starts_at_ms = Transition::start(old.effective_at_ms, now_ms);
        let even = Transition {
            from: actual.unwrap_or_else(|| running.limit_at(starts_at_ms)),
            starts_at_ms,
            freed_permille: 500,
            guarantee: old.guarantee.min(old.to),
            ..old.clone()
        };
        let rest = Transition { freed_permille: rest_permille(running, &even), ..even.clone() };
        phase(&rest, demand).or_else(|_| phase(&even, demand))
    }
}

fn is_off(actual: u64, running: &Running, tolerance: &Tolerance) -> bool {
    let off = actual.abs_diff(running.setpoint);
    let is_far = u128::from(off) * 1000 > u128::from(running.distance) * u128::from(tolerance.off_permille);
    is_far && off > running.slack
}

/// The share of the new way that frees what the old plan would have freed from its start on.
fn rest_permille(running: &PhasedPlan, anew: &Transition) -> u64 {
    let old = running.transition();
    let (start_ms, end_ms) = (anew.starts_at_ms, old.effective_at_ms);
    // What the old course would free from now on, against where the new one begins.
    let inner = running.setpoints().iter().map(|setpoint| setpoint.at_ms).filter(|at_ms| *at_ms > start_ms);
    let mut before = (start_ms, running.limit_at(start_ms));
    let mut freed_twice = 0_u128;
    for at_ms in inner {
        let value = running.limit_at(at_ms);
        let both = u128::from(moved(before.1, anew)) + u128::from(moved(value, anew));
        freed_twice += both * u128::from(at_ms - before.0);
        before = (at_ms, value);
    }
    let whole_twice = 2 * u128::from(anew.distance()) * u128::from(end_ms.saturating_sub(start_ms));
    u64::try_from((freed_twice * 1000).checked_div(whole_twice).unwrap_or(500)).unwrap_or(1000).min(1000)
}

/// How much of the new way a value of the old course has behind it.
fn moved(value: u64, anew: &Transition) -> u64 {
    let moved = if anew.shrinks() { anew.from.saturating_sub(value) } else { value.saturating_sub(anew.from) };
    moved.min(anew.distance())
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
