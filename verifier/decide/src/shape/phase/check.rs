//! The second pass: a finished course against its request alone. It shares no line with what made the course.

use quotary_common::plan::Setpoint;
use thiserror::Error;

use super::transition::{STEPS_MAX, Transition};

/// A course that keeps its request: only [`check`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhasedPlan {
    transition: Transition,
    setpoints: Vec<Setpoint>,
    is_straight: bool,
}

/// What is wrong with a course.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PlanFault {
    /// The request itself does not hold together.
    #[error("no course keeps such a request")]
    Request,
    /// A setpoint is not at an instant of the request's resolution, or there are too few or too many.
    #[error("its setpoints are not at the instants of its resolution")]
    Instants,
    /// It does not end at the target.
    #[error("it does not end exactly at the target")]
    Target,
    /// It goes back on its way, or beyond its ends.
    #[error("the setpoint at {0} (Unix ms) goes back, or beyond what is and what shall be")]
    Turns(u64),
    /// It is faster than the slew.
    #[error("it is faster than its slew before {0} (Unix ms)")]
    Slew(u64),
    /// It goes below the guarantee.
    #[error("the setpoint at {0} (Unix ms) is below the guarantee")]
    Guarantee(u64),
    /// It frees more or less than was asked for.
    #[error("it frees {freed} unit seconds, not {asked}")]
    Freed {
        /// What it frees, or takes early.
        freed: u128,
        /// What it should.
        asked: u128,
    },
}

/// Checks a course: the second pass that none escapes.
///
/// # Errors
/// The first [`PlanFault`].
pub fn check(transition: &Transition, setpoints: &[Setpoint]) -> Result<PhasedPlan, PlanFault> {
    let Transition { from, to, guarantee, starts_at_ms, effective_at_ms, resolution_s, slew_per_s, .. } = *transition;
    let window_ms = effective_at_ms.checked_sub(starts_at_ms).ok_or(PlanFault::Request)?;
    let sound = window_ms % 1000 == 0 && resolution_s > 0 && slew_per_s > 0 && transition.freed_permille <= 1000;
    if !sound || (to < from && to < guarantee) {
        return Err(PlanFault::Request);
    }
    let step_s = resolution_s.max((window_ms / 1000).div_ceil(STEPS_MAX));
    let count = (window_ms / 1000 / step_s).max(1);
    if setpoints.len() as u64 != count {
        return Err(PlanFault::Instants);
    }
    let mut before = Setpoint { at_ms: starts_at_ms, value: from };
    let mut freed_twice = 0_u128;
    for (setpoint, left) in setpoints.iter().zip((0..count).rev()) {
        let due_ms = left.checked_mul(1000 * step_s).and_then(|left_ms| effective_at_ms.checked_sub(left_ms));
        if due_ms != Some(setpoint.at_ms) {
            return Err(PlanFault::Instants);
        }
        let value = setpoint.value;
        let onward =
            if to < from { (to..=before.value).contains(&value) } else { (before.value..=to).contains(&value) };
        if !onward {
            return Err(PlanFault::Turns(setpoint.at_ms));
        }
        // What begins below the guarantee grows towards it.
        if value < guarantee && value < from {
            return Err(PlanFault::Guarantee(setpoint.at_ms));
        }
        let took_ms = u128::from(setpoint.at_ms.saturating_sub(before.at_ms));
        if u128::from(value.abs_diff(before.value)) * 1000 > u128::from(slew_per_s) * took_ms {
            return Err(PlanFault::Slew(setpoint.at_ms));
        }
        freed_twice += (u128::from(value.abs_diff(from)) + u128::from(before.value.abs_diff(from))) * took_ms;
        before = *setpoint;
    }
    if before.value != to {
        return Err(PlanFault::Target);
    }
    let is_straight = is_line(transition, setpoints, u128::from(window_ms));
    let asked_twice =
        2 * u128::from(from.abs_diff(to)) * u128::from(window_ms / 1000) * u128::from(transition.freed_permille) / 1000;
    // One unit for one step, half of it to either side: so one value that is one off shows.
    let (asked_ms, half_ms) = (asked_twice * 1000, u128::from(step_s) * 1000);
    let met = freed_twice + half_ms > asked_ms && freed_twice <= asked_ms + half_ms;
    let by_line = is_straight && transition.freed_permille == 500;
    if !(met || by_line) {
        return Err(PlanFault::Freed { freed: freed_twice / 2000, asked: asked_twice / 2 });
    }
    Ok(PhasedPlan { transition: transition.clone(), setpoints: setpoints.to_vec(), is_straight })
}

/// Whether every setpoint is on the straight line, its last unit rounded down.
fn is_line(transition: &Transition, setpoints: &[Setpoint], window_ms: u128) -> bool {
    let Transition { from, to, starts_at_ms, .. } = *transition;
    setpoints.iter().all(|setpoint| {
        let left_ms = window_ms.saturating_sub(u128::from(setpoint.at_ms.saturating_sub(starts_at_ms)));
        let done_ms = window_ms - left_ms;
        let mean = (u128::from(from) * left_ms + u128::from(to) * done_ms).checked_div(window_ms);
        u128::from(setpoint.value) == mean.unwrap_or(u128::from(to))
    })
}

impl PhasedPlan {
    /// What was asked for.
    pub fn transition(&self) -> &Transition {
        &self.transition
    }

    /// The setpoints after the start, in ascending order of time; straight lines between them, the first one's from what is at the start.
    /// This is what a [`Course`](quotary_common::plan::Course) takes.
    pub fn setpoints(&self) -> &[Setpoint] {
        &self.setpoints
    }

    /// Whether it is the straight line.
    pub fn is_straight(&self) -> bool {
        self.is_straight
    }

    /// What the amount should be at an instant (Unix ms): what is before the start, the target from the effective time on. Between two
    /// setpoints the line, rounded towards the later one's past, as [`CheckedPlan`](quotary_common::plan::CheckedPlan) has it.
    pub fn limit_at(&self, at_ms: u64) -> u64 {
        let passed = self.setpoints.partition_point(|setpoint| setpoint.at_ms <= at_ms);
        let start = Setpoint { at_ms: self.transition.starts_at_ms, value: self.transition.from };
        let last = passed.checked_sub(1).and_then(|index| self.setpoints.get(index)).copied().unwrap_or(start);
        let Some(next) = self.setpoints.get(passed) else { return last.value };
        let gone = u128::from(at_ms.saturating_sub(last.at_ms));
        let span = u128::from(next.at_ms - last.at_ms).max(1);
        let moved = u64::try_from(u128::from(last.value.abs_diff(next.value)) * gone / span).unwrap_or(u64::MAX);
        if next.value < last.value { last.value.saturating_sub(moved) } else { last.value.saturating_add(moved) }
    }

    /// What it frees before the effective time, or takes before it, in unit seconds, rounded down.
    pub fn freed_unit_s(&self) -> u128 {
        let from = self.transition.from;
        let start = Setpoint { at_ms: self.transition.starts_at_ms, value: from };
        let befores = std::iter::once(&start).chain(&self.setpoints);
        let twice_ms = befores.zip(&self.setpoints).map(|(before, after)| {
            let both = u128::from(before.value.abs_diff(from)) + u128::from(after.value.abs_diff(from));
            both * u128::from(after.at_ms - before.at_ms)
        });
        twice_ms.sum::<u128>() / 2000
    }
}
