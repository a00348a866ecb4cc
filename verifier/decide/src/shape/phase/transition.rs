//! What is asked for: one amount, from what is to what shall be.

use quotary_common::plan::Setpoint;
use thiserror::Error;

/// Setpoints of a course at most: a finer resolution is made coarser.
pub const STEPS_MAX: u64 = 360;
/// Longest delay window, seconds: as `common::plan` has it.
const WINDOW_S_MAX: u64 = 31 * 24 * 3_600;

/// The fastest that a course without a slew of its own moves, in multiples of its mean speed.
pub const SLEW_OF_MEAN: u64 = 4;

/// One amount's way over a delay window: a limit or a guarantee of one resource, in its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// What is, at the start.
    pub from: u64,
    /// What shall be from the effective time on.
    pub to: u64,
    /// What the amount never goes below on its way.
    pub guarantee: u64,
    /// When it begins, Unix ms; a whole number of seconds before the effective time ([`Transition::start`]).
    pub starts_at_ms: u64,
    /// When the target is reached, Unix ms.
    pub effective_at_ms: u64,
    /// Seconds between setpoints, at least 1; coarser where more than [`STEPS_MAX`] would come of it.
    pub resolution_s: u64,
    /// Units per second at most, at least 1.
    pub slew_per_s: u64,
    /// How much capacity is freed early (or, growing, taken early): thousandths of the whole distance over the whole window.
    /// A straight line frees 500.
    pub freed_permille: u64,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// The request contradicts itself.
    #[error("{0}")]
    Request(&'static str),
    /// The time does not suffice.
    #[error("the slew needs more time: it can take effect at {earliest_ms} (Unix ms) at the earliest")]
    TooSoon {
        /// The earliest effective time, Unix ms.
        earliest_ms: u64,
    },
    /// Neither a course of least harm nor the line frees such a share under the slew.
    #[error("so much capacity cannot be freed early, or so little, under the slew")]
    Share,
}

/// The instants of a course: the first step may be longer than the others, which are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) steps: usize,
    pub(super) first_s: u64,
    pub(super) step_s: u64,
}

impl Grid {
    /// The length of a step, seconds; the first is 1.
    pub(super) fn length_s(&self, step: usize) -> u64 {
        if step <= 1 { self.first_s } else { self.step_s }
    }

    /// Seconds from the start to the end of a step.
    pub(super) fn end_s(&self, step: usize) -> u64 {
        match step.checked_sub(1) {
            None => 0,
            Some(after_first) => self.first_s + self.step_s * after_first as u64,
        }
    }

    /// Seconds in all.
    pub(super) fn window_s(&self) -> u64 {
        self.end_s(self.steps)
    }

    /// Seconds over which a value at the end of a step counts, twice: half of the steps beside it each.
    pub(super) fn weight_twice(&self, step: usize) -> u64 {
        let after = if step < self.steps { self.step_s } else { 0 };
        self.length_s(step) + after
    }
}

impl Transition {
    /// The instant from `now_ms` on that lies a whole number of seconds before the effective time.
    pub const fn start(effective_at_ms: u64, now_ms: u64) -> u64 {
        effective_at_ms.saturating_sub(effective_at_ms.saturating_sub(now_ms) / 1000 * 1000)
    }

    /// How far it goes.
    pub const fn distance(&self) -> u64 {
        self.from.abs_diff(self.to)
    }

    /// Whether it makes less of the amount.
    pub const fn shrinks(&self) -> bool {
        self.to < self.from
    }

    /// Whether the straight line frees what is asked for.
    pub(super) const fn is_even(&self) -> bool {
        self.freed_permille == 500
    }

    /// The amount when so much of the distance is gone.
    pub(super) const fn limit(&self, moved: u64) -> u64 {
        if self.shrinks() { self.from.saturating_sub(moved) } else { self.from.saturating_add(moved) }
    }

    /// Twice what is to be freed or taken early, in unit seconds.
    pub(super) const fn asked_twice(&self, window_s: u64) -> u128 {
        2 * self.distance() as u128 * window_s as u128 * self.freed_permille as u128 / 1000
    }

    /// The instants of its course.
    ///
    /// # Errors
    /// [`Refused`] when the request contradicts itself or the time does not suffice.
    pub(super) fn grid(&self) -> Result<Grid, Refused> {
        if self.resolution_s == 0 || self.slew_per_s == 0 {
            return Err(Refused::Request("resolution and slew are at least 1"));
        }
        if self.freed_permille > 1000 {
            return Err(Refused::Request("the share that is freed is at most 1000 thousandths"));
        }
        if self.shrinks() && self.to < self.guarantee {
            return Err(Refused::Request("the target lies below the guarantee"));
        }
        let needs_s = self.distance().div_ceil(self.slew_per_s);
        if needs_s > WINDOW_S_MAX {
            return Err(Refused::Request("the slew does not reach the target within 31 days"));
        }
        let window_ms = self.effective_at_ms.saturating_sub(self.starts_at_ms);
        if window_ms / 1000 < needs_s || self.effective_at_ms < self.starts_at_ms {
            let earliest_ms = self.starts_at_ms.saturating_add(needs_s.saturating_mul(1000));
            return Err(Refused::TooSoon { earliest_ms });
        }
        if !window_ms.is_multiple_of(1000) || window_ms / 1000 > WINDOW_S_MAX {
            return Err(Refused::Request("a delay window is a whole number of seconds, 31 days at most"));
        }
        let window_s = window_ms / 1000;
        let step_s = self.resolution_s.max(window_s.div_ceil(STEPS_MAX));
        let steps = (window_s / step_s).max(1);
        let first_s = window_s - (steps - 1) * step_s;
        Ok(Grid { steps: usize::try_from(steps).unwrap_or(usize::MAX), first_s, step_s })
    }

    /// Setpoints at the ends of the grid's steps, from how much is moved at each, the start before them.
    pub(super) fn setpoints(&self, grid: &Grid, moved: &[u64]) -> Vec<Setpoint> {
        let at = |step: usize| self.starts_at_ms + 1000 * grid.end_s(step);
        moved
            .iter()
            .enumerate()
            .skip(1)
            .map(|(step, moved)| Setpoint { at_ms: at(step), value: self.limit(*moved) })
            .collect()
    }

    /// The way back from `limit`, where it stands at `now_ms`: to what was, in the time that the slew needs.
    pub(super) fn back(&self, limit: u64, now_ms: u64) -> Self {
        let starts_at_ms = now_ms.max(self.starts_at_ms);
        let needs_s = limit.abs_diff(self.from).div_ceil(self.slew_per_s.max(1)).max(1);
        Self {
            from: limit,
            to: self.from,
            guarantee: self.guarantee.min(self.from),
            starts_at_ms,
            effective_at_ms: starts_at_ms.saturating_add(needs_s.saturating_mul(1000)),
            freed_permille: 500,
            ..self.clone()
        }
    }
}

/// An amount among floats: they place it, they never are it.
#[expect(clippy::cast_precision_loss, reason = "what is lost is put right in whole numbers")]
pub(super) const fn float(amount: u64) -> f64 {
    amount as f64
}
