//! The arithmetic of one step: how far a control may move at a tick.

use quotary_common::plan::ShapedControl;

use super::kept::{Kept, Track};
use super::note::Cause;
use super::reading::{Actual, Now, Reading, Value};
use super::rules::CheckedRules;
use super::track::permille;

/// Pressure shows what a release did after about the window of its average (avg10), ms.
pub(super) const PRESSURE_LAG_MS: u64 = 10_000;
/// Ticks without anything coming free after which reclaim counts as stalled.
pub(super) const STALLED_TICKS: u8 = 3;
/// Part of what was asked for that must come free per tick to count as progress.
const PROGRESS_PART: u64 = 8;

/// How urgent a write is; the greater goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Follows a line.
    Follow,
    /// Goes back for pressure.
    Release,
}

/// A write that could be made at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) index: usize,
    pub(super) value: Value,
    pub(super) is_tighter: bool,
    pub(super) urgency: Urgency,
    /// How far behind its line it is, in millionths of its range.
    pub(super) behind: u64,
    /// Where its line is.
    pub(super) line: u64,
    /// It goes back for this.
    pub(super) rollback: Option<Cause>,
}

impl Candidate {
    /// The one to be written: the most urgent, then the one furthest behind, then the first.
    pub(super) fn better(best: Option<Self>, other: Self) -> Option<Self> {
        match best {
            Some(best) if (best.urgency, best.behind) >= (other.urgency, other.behind) => Some(best),
            _ => Some(other),
        }
    }
}

/// Whether a value limits more than another.
pub(super) fn is_tighter(control: ShapedControl, value: u64, than: u64) -> bool {
    if control.is_tighter_when_less() { value < than } else { value > than }
}

/// How far apart two levels are, in millionths of a range.
pub(super) fn behind(present: u64, line: u64, span: u64) -> u64 {
    let part = u128::from(present.abs_diff(line)) * 1_000_000 / u128::from(span.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// Where a control that is tightened comes to with one step towards `aim`: as far as its line went since it was last
/// written, at least its stride, and never more than the greatest step.
pub(super) fn tightened(track: &Track, present: u64, aim: u64, rules: &CheckedRules) -> u64 {
    let most = permille(present, rules.greatest_step_permille(track.control)).max(1);
    let by_line = track.line.saturating_sub(aim);
    let by_stride = permille(present, track.stride_permille.max(rules.step_permille)).max(1);
    aim.max(present.saturating_sub(by_line.max(by_stride).min(most))).min(present)
}

/// Where a control goes back to under pressure: to the last value that was fine, or a step (each further one twice
/// the last), bounded by the baseline. `None` when it is there already.
pub(super) fn rolled_back(track: &Track, rules: &CheckedRules) -> Option<Value> {
    let control = track.control;
    if !control.is_gradual() {
        let is_on = track.expected == Value::Value(1);
        return (is_on && track.baseline != Value::Value(1)).then_some(Value::Value(0));
    }
    let Value::Value(present) = track.expected else { return None };
    let as_level = |value: Value| match value {
        Value::Value(value) => value,
        Value::Unlimited => rules.unlimited_worth(control),
    };
    let most = as_level(track.baseline);
    let step = permille(present, rules.step_permille_max).max(1).saturating_mul(1 << track.rollbacks.min(6));
    let wanted = present.saturating_add(step).max(as_level(track.good));
    if present >= most {
        None
    } else if wanted >= most {
        Some(track.baseline)
    } else {
        Some(Value::Value(wanted))
    }
}

/// Whether a change is small enough to be left, in a control that has `present`.
pub(super) fn is_in_dead_band(present: u64, to: u64, rules: &CheckedRules) -> bool {
    u128::from(present.abs_diff(to)) * 1000 < u128::from(present) * u128::from(rules.dead_band_permille)
        || present == to
}

/// What may be written to `memory.high` when `to` is wanted, and what is to be reclaimed for the rest.
///
/// The write makes its writer (PID 1) reclaim what is in use above the new value, so that it must be little; none at
/// all where reclaim `is_stalled`.
pub(super) fn within_headroom(
    reading: &Reading,
    to: u64,
    is_stalled: bool,
    rules: &CheckedRules,
) -> (u64, Option<u64>) {
    let Some(current) = reading.memory_current_bytes else { return (to, None) };
    let least = current.saturating_sub(permille(current, rules.memory_headroom_permille));
    if to >= least {
        return (to, None);
    }
    let reclaim = (current - to).min(rules.reclaim_bytes_max);
    (if is_stalled { current } else { least }, Some(reclaim))
}

/// Takes note of what came of the last reclaim. Where the kernel's answer is not known, it is by what is in use: it
/// counts as stalled when next to nothing came free and more is in use than `memory.high` allows (below that, the
/// target may have filled again what was freed).
pub(super) fn account_reclaim(kept: &mut Kept, reading: &Reading) {
    let reclaim = &mut kept.reclaim;
    if reclaim.asked_bytes == 0 {
        reclaim.stalled_ticks = 0;
        return;
    }
    let current = reading.memory_current_bytes.unwrap_or(0);
    let freed = reclaim.current_bytes.saturating_sub(current);
    let is_short = reading.reclaim_fell_short.unwrap_or_else(|| {
        let is_over = match reading.actual(ShapedControl::MemoryHigh) {
            Actual::Value(high) => current > high,
            Actual::Unlimited | Actual::Absent => false,
        };
        is_over && freed < reclaim.asked_bytes.div_ceil(PROGRESS_PART)
    });
    reclaim.stalled_ticks = if is_short { reclaim.stalled_ticks.saturating_add(1).min(STALLED_TICKS) } else { 0 };
    reclaim.asked_bytes = 0;
}

impl Track {
    /// Tightening waits, each time twice as long.
    pub(super) fn back_off(&mut self, by: Cause, rules: &CheckedRules, now: Now) {
        self.retry_wait_ms = match self.retry_wait_ms {
            0 => rules.retry_ms,
            wait_ms => wait_ms.saturating_mul(2).min(rules.retry_ms_max),
        };
        self.retry_at_ms = now.boottime_ms.saturating_add(self.retry_wait_ms);
        self.retry_by = Some(by);
        self.stride_permille = rules.step_permille;
    }

    /// The backend refused a write: the next try waits.
    pub(super) fn refuse(&mut self, rules: &CheckedRules, now: Now) {
        self.refused_wait_ms = match self.refused_wait_ms {
            0 => rules.retry_ms,
            wait_ms => wait_ms.saturating_mul(2).min(rules.retry_ms_max),
        };
        self.refused_until_ms = now.boottime_ms.saturating_add(self.refused_wait_ms);
    }

    /// What holds it back from before, whatever the pressure is now.
    pub(super) fn backs_off_for(&self, now: Now) -> Option<Cause> {
        self.retry_by.filter(|_| now.boottime_ms < self.retry_at_ms)
    }

    /// Whether the reading says what of it is in use.
    pub(super) fn is_known_in_use(&self, reading: &Reading) -> bool {
        match self.control {
            ShapedControl::MemoryHigh => true,
            ShapedControl::NetworkEgress => reading.egress_bits_per_second.is_some(),
            ShapedControl::Storage => reading.storage_used_bytes.is_some(),
            _ => false,
        }
    }

    /// Whether it is one that reclaim serves.
    pub(super) fn is_memory_high(&self) -> bool {
        self.control == ShapedControl::MemoryHigh
    }
}
