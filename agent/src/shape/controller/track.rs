//! One control of a target: its levels, its owner, how it stands.

use quotary_common::plan::ShapedControl;

use super::kept::{Track, Trial};
use super::note::{Note, Standing};
use super::reading::{Now, Reading, Value};
use super::rules::CheckedRules;
use super::step::PRESSURE_LAG_MS;

/// The largest page of a Linux kernel, bytes: `memory.high` is rounded down to pages.
const PAGE_BYTES_MAX: u64 = 65_536;
/// So many ticks a write may take to show, from the first look after it: systemd answers first, and comes to it when it can.
const SETTLE_TICKS: u64 = 10;

/// Whose a control is at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// It shows what should stand there.
    Ours,
    /// The last write does not show yet.
    Settling,
    /// Another writer has it, or it is not there.
    Left,
}

impl Track {
    /// A control that a plan takes up, never written so far.
    pub(super) fn new(control: ShapedControl, baseline: Value, found: Value) -> Self {
        Self {
            control,
            baseline,
            found: 0,
            found_at_unix_ms: 0,
            span: 0,
            expected: found,
            before: None,
            written_at_ms: None,
            tightened_at_ms: None,
            good: found,
            line: 0,
            target: None,
            stride_permille: 0,
            retry_at_ms: 0,
            retry_wait_ms: 0,
            retry_by: None,
            rollbacks: 0,
            look_again_at_ms: None,
            contested_wait_ms: 0,
            regained_at_ms: 0,
            given_up: None,
            was_held: false,
            reached_at_unix_ms: None,
            late_by_ms: None,
            standing: Standing::Moving,
            is_bounded: false,
            decay_from: 0,
            refused_until_ms: 0,
            refused_wait_ms: 0,
            trial: None,
            was_reached: false,
            unseen_since_ms: None,
            tried: None,
            paced: None,
        }
    }

    /// Looks whose the control is. A foreign value is never fought: it is looked at again after a wait that doubles.
    pub(super) fn look(&mut self, reading: &Reading, rules: &CheckedRules, now: Now, notes: &mut Vec<Note>) -> Sight {
        let control = self.control;
        let Some(shown) = Value::shown_by(reading.actual(control)) else {
            if self.standing != Standing::Unsupported {
                self.standing = Standing::Unsupported;
                notes.push(Note::Unsupported { control });
            }
            return Sight::Left;
        };
        let is_back = self.standing == Standing::Unsupported;
        if let Some(tried) = self.tried.take_if(|tried| same(control, shown, *tried, rules)) {
            self.expected = tried;
        }
        let is_ours = same(control, shown, self.expected, rules);
        let is_baseline = same(control, shown, self.baseline, rules);
        let is_due = self.look_again_at_ms.is_some_and(|at_ms| now.boottime_ms >= at_ms);
        if (is_back || is_due) && (is_ours || is_baseline) {
            return self.regain(if is_ours { self.expected } else { self.baseline }, now, notes);
        }
        if self.look_again_at_ms.is_some() && !is_due {
            return Sight::Left;
        }
        if !is_due && is_ours {
            if self.before.take().is_some() {
                self.refused_wait_ms = 0;
            }
            self.unseen_since_ms = None;
            let is_refused = now.boottime_ms < self.refused_until_ms;
            return if is_refused { Sight::Settling } else { Sight::Ours };
        }
        let settle_ms = rules.tick_ms * SETTLE_TICKS;
        if !is_due && self.before.is_some_and(|before| same(control, shown, before, rules)) {
            let since_ms = *self.unseen_since_ms.get_or_insert(now.boottime_ms);
            if now.boottime_ms.saturating_sub(since_ms) <= settle_ms {
                return Sight::Settling;
            }
        }
        self.contest(shown, rules, now, notes)
    }

    fn contest(&mut self, found: Value, rules: &CheckedRules, now: Now, notes: &mut Vec<Note>) -> Sight {
        let was_ours_long = now.boottime_ms.saturating_sub(self.regained_at_ms) >= rules.contested_ms_max;
        let is_new = self.look_again_at_ms.is_none();
        self.contested_wait_ms = if self.contested_wait_ms == 0 || (is_new && was_ours_long) {
            rules.contested_ms
        } else {
            self.contested_wait_ms.saturating_mul(2).min(rules.contested_ms_max)
        };
        self.look_again_at_ms = Some(now.boottime_ms.saturating_add(self.contested_wait_ms));
        if is_new {
            notes.push(Note::Contested { control: self.control, expected: self.expected, found });
        }
        self.standing = Standing::Contested;
        Sight::Left
    }

    fn regain(&mut self, shown: Value, now: Now, notes: &mut Vec<Note>) -> Sight {
        self.look_again_at_ms = None;
        self.regained_at_ms = now.boottime_ms;
        (self.expected, self.before) = (shown, None);
        self.standing = Standing::Moving;
        notes.push(Note::Regained { control: self.control });
        Sight::Ours
    }

    /// What should stand there as a number: what "unlimited" (or more than there is) is worth for the target now.
    pub(super) fn level(&self, value: Value, reading: &Reading, rules: &CheckedRules) -> u64 {
        match value {
            Value::Value(value) if !is_open(self.control, Value::Value(value), rules) => value,
            Value::Value(_) | Value::Unlimited => open_level(self.control, reading, rules),
        }
    }

    /// A write goes out.
    pub(super) fn write(&mut self, value: Value, is_tighter: bool, now: Now) {
        (self.before, self.expected) = (Some(self.expected), value);
        (self.unseen_since_ms, self.tried) = (None, None);
        self.written_at_ms = Some(now.boottime_ms);
        if is_tighter {
            self.tightened_at_ms = Some(now.boottime_ms);
        }
    }

    /// How long its last write is ago, ms.
    pub(super) fn rested_ms(&self, now: Now) -> u64 {
        self.written_at_ms.map_or(u64::MAX, |at_ms| now.boottime_ms.saturating_sub(at_ms))
    }

    /// How long its last tightening is ago, ms.
    pub(super) fn since_tightened_ms(&self, now: Now) -> u64 {
        self.tightened_at_ms.map_or(u64::MAX, |at_ms| now.boottime_ms.saturating_sub(at_ms))
    }

    /// Takes note of whether pressure is away: what stood there when it has been so for long enough was good. (What
    /// was written since is tighter, and did no harm either, or it would show.)
    pub(super) fn prove(&mut self, is_calm: bool, now: Now) {
        let trial = Trial { value: self.expected, since_ms: now.boottime_ms };
        match self.trial.filter(|_| is_calm) {
            Some(old) if now.boottime_ms.saturating_sub(old.since_ms) >= PRESSURE_LAG_MS => {
                (self.good, self.trial) = (old.value, Some(trial));
            }
            Some(_) => {}
            None => self.trial = is_calm.then_some(trial),
        }
    }

    /// Whether it stands at its baseline.
    pub(super) fn is_at_baseline(&self, rules: &CheckedRules) -> bool {
        self.expected == self.baseline
            || normal(self.control, self.expected, rules) == normal(self.control, self.baseline, rules)
    }
}

/// Whether a value limits nothing here, in a control that can be without a limit.
pub(super) fn is_open(control: ShapedControl, value: Value, rules: &CheckedRules) -> bool {
    match normal(control, value, rules) {
        Value::Unlimited => true,
        Value::Value(value) => value > rules.ceiling(control),
    }
}

/// How far above what is sent the first limit of egress stands, permille.
const EGRESS_HEADROOM_PERMILLE: u16 = 100;

/// Where a line starts in a control without a limit: for memory, egress and storage a little above what is in use, so that the
/// first write changes nothing yet.
fn open_level(control: ShapedControl, reading: &Reading, rules: &CheckedRules) -> u64 {
    let worth = rules.unlimited_worth(control);
    let above = |current: u64, headroom: u64| rules.bounded(control, current.saturating_add(headroom)).min(worth);
    let in_use = match control {
        ShapedControl::MemoryHigh => reading.memory_current_bytes,
        ShapedControl::NetworkEgress => reading.egress_bits_per_second,
        ShapedControl::Storage => reading.storage_used_bytes,
        _ => None,
    };
    match (control, in_use) {
        (_, None) => worth,
        (ShapedControl::NetworkEgress, Some(bits)) => above(bits, permille(bits, EGRESS_HEADROOM_PERMILLE)),
        (_, Some(bytes)) => above(bytes, permille(bytes, rules.memory_headroom_permille).max(PAGE_BYTES_MAX)),
    }
}

/// "Not set" of a weight is the kernel's default, of what is on or off it is off.
fn normal(control: ShapedControl, value: Value, rules: &CheckedRules) -> Value {
    match (control, value) {
        (ShapedControl::CpuWeight | ShapedControl::IoWeight | ShapedControl::CpuIdle, Value::Unlimited) => {
            Value::Value(rules.unlimited_worth(control))
        }
        _ => value,
    }
}

/// Whether what is shown is what was written: kernel and manager round.
fn same(control: ShapedControl, shown: Value, written: Value, rules: &CheckedRules) -> bool {
    match (normal(control, shown, rules), normal(control, written, rules)) {
        (Value::Unlimited, Value::Unlimited) => true,
        (Value::Value(shown), Value::Value(written)) => shown.abs_diff(written) <= rounding(control, written),
        (Value::Unlimited, Value::Value(_)) | (Value::Value(_), Value::Unlimited) => false,
    }
}

fn rounding(control: ShapedControl, written: u64) -> u64 {
    match control {
        ShapedControl::MemoryHigh | ShapedControl::MemoryLow | ShapedControl::Storage => PAGE_BYTES_MAX,
        ShapedControl::CpuQuota | ShapedControl::NetworkEgress => (written / 100).max(1),
        ShapedControl::CpuWeight
        | ShapedControl::CpuIdle
        | ShapedControl::IoWeight
        | ShapedControl::IoReadMax
        | ShapedControl::IoWriteMax => 0,
    }
}

/// So many thousandths of a value, rounded down.
pub(super) fn permille(value: u64, permille: u16) -> u64 {
    let part = u128::from(value) * u128::from(permille) / 1000;
    u64::try_from(part).unwrap_or(u64::MAX)
}
