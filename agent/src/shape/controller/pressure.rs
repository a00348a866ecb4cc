//! What pressure says: which controls wait, and which go back a step.

use quotary_common::plan::{OnPressure, ShapedControl};

use super::kept::{Hold, Kept};
use super::note::Cause;
use super::reading::{Actual, Counters, Reading};
use super::rules::{CheckedRules, Guard};

/// How much more than what was there before a plan counts as the plan's doing, permille.
const FOUND_MARGIN_PERMILLE: u16 = 50;
/// A limit binds when this much of it is in use, permille.
const BINDING_PERMILLE: u128 = 950;

/// Which pressure judges a control; storage and network egress have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Cpu,
    Memory,
    Io,
}

impl Class {
    pub(super) const fn of(control: ShapedControl) -> Option<Self> {
        match control {
            ShapedControl::CpuWeight | ShapedControl::CpuIdle | ShapedControl::CpuQuota => Some(Self::Cpu),
            ShapedControl::MemoryHigh | ShapedControl::MemoryLow => Some(Self::Memory),
            ShapedControl::IoWeight | ShapedControl::IoReadMax | ShapedControl::IoWriteMax => Some(Self::Io),
            ShapedControl::NetworkEgress | ShapedControl::Storage => None,
        }
    }
}

/// What one kind of pressure says at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Judgement {
    /// Tightening must wait.
    hold: Option<Cause>,
    /// What was tightened must be released a step.
    rollback: Option<Cause>,
    /// The pressure is gone.
    is_calm: bool,
}

/// What pressure asks for at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Verdict {
    memory: (Option<Cause>, Option<Cause>, bool),
    cpu: (Option<Cause>, Option<Cause>, bool),
    io: (Option<Cause>, Option<Cause>, bool),
    is_oomd: bool,
}

impl Verdict {
    fn of(&self, control: ShapedControl) -> (Option<Cause>, Option<Cause>, bool) {
        match Class::of(control) {
            Some(Class::Memory) => self.memory,
            Some(Class::Cpu) => self.cpu,
            Some(Class::Io) => self.io,
            None => (None, None, true),
        }
    }

    /// Why a control must not be tightened now.
    pub(super) fn hold(&self, control: ShapedControl) -> Option<Cause> {
        let (hold, ..) = self.of(control);
        hold.or(self.is_oomd.then_some(Cause::Oomd))
    }

    /// Why a control must be released a step now.
    pub(super) fn rollback(&self, control: ShapedControl) -> Option<Cause> {
        self.of(control).1
    }

    /// Whether a control's pressure is low enough to call its value fine.
    pub(super) fn is_calm(&self, control: ShapedControl) -> bool {
        let (hold, _, is_calm) = self.of(control);
        is_calm && hold.is_none()
    }
}

/// What a tick brings to judge by.
pub(super) struct Look<'a> {
    pub(super) reading: &'a Reading,
    pub(super) rules: &'a CheckedRules,
    pub(super) on_pressure: OnPressure,
    pub(super) now_ms: u64,
    /// Since the last decision, ms.
    pub(super) elapsed_ms: u64,
}

/// Judges the pressure of a tick and carries the holds on: a hold ends when its pressure was under the lower level for
/// a dwell.
pub(super) fn watch(kept: &mut Kept, look: &Look<'_>) -> Verdict {
    let dwell_ms = look.rules.dwell_ms;
    let (memory, oomd_near) = judge_memory(kept, look);
    let cpu = judge_cpu(kept, look);
    let io = judge(look, look.reading.io_pressure_permille, look.rules.io, kept.found_io_permille, Cause::IoPressure);
    kept.memory = carry(kept.memory, memory, look.now_ms, dwell_ms);
    kept.cpu = carry(kept.cpu, cpu, look.now_ms, dwell_ms);
    kept.io = carry(kept.io, io, look.now_ms, dwell_ms);
    if oomd_near && let Some(hold) = &mut kept.memory {
        hold.is_oomd = true;
    }
    let says = |hold: Option<Hold>, judged: Judgement| (hold.map(|hold| hold.by), judged.rollback, judged.is_calm);
    Verdict {
        memory: says(kept.memory, memory),
        cpu: says(kept.cpu, cpu),
        io: says(kept.io, io),
        is_oomd: kept.memory.is_some_and(|hold| hold.is_oomd),
    }
}

fn carry(held: Option<Hold>, judged: Judgement, now_ms: u64, dwell_ms: u64) -> Option<Hold> {
    if let Some(by) = judged.hold {
        let is_oomd = held.is_some_and(|hold| hold.is_oomd);
        return Some(Hold { by, calm_since_ms: None, is_oomd });
    }
    let mut hold = held?;
    if !judged.is_calm {
        hold.calm_since_ms = None;
        return Some(hold);
    }
    let since_ms = *hold.calm_since_ms.get_or_insert(now_ms);
    (now_ms.saturating_sub(since_ms) < dwell_ms).then_some(hold)
}

/// A guard on one pressure. With `proceed` it says nothing.
fn judge(look: &Look<'_>, pressure: Option<u16>, guard: Guard, found: u16, cause: Cause) -> Judgement {
    let Some(pressure) = pressure.filter(|_| look.on_pressure == OnPressure::Hold) else {
        return Judgement { is_calm: true, ..Judgement::default() };
    };
    // Pressure that was there before anything was written is not ours to judge by.
    let is_ours = found == 0 || pressure > found.saturating_add(FOUND_MARGIN_PERMILLE);
    let past = |level: u16| (is_ours && pressure >= level).then_some(cause);
    let is_calm = pressure < guard.resume_permille || (!is_ours && pressure < guard.hold_permille.max(found));
    Judgement { hold: past(guard.hold_permille), rollback: past(guard.rollback_permille), is_calm }
}

/// Memory: its guard, out-of-memory events, and oomd; whether oomd is near.
fn judge_memory(kept: &Kept, look: &Look<'_>) -> (Judgement, bool) {
    let reading = look.reading;
    let mut judged = judge(look, reading.memory_pressure_permille, look.rules.memory, 0, Cause::MemoryPressure);
    if !binds(kept, reading) {
        // Releasing a limit that does not bind would help nobody.
        judged.rollback = None;
    }
    let pressure = u32::from(reading.memory_pressure_permille.unwrap_or(0));
    let limit = reading.oomd_limit_permille.filter(|limit| *limit > 0).map(u32::from);
    let near = limit.is_some_and(|limit| pressure * 4 >= limit);
    if near {
        judged.hold = Some(Cause::Oomd);
    }
    if limit.is_some_and(|limit| pressure * 2 >= limit) {
        judged.rollback = Some(Cause::Oomd);
    }
    judged.is_calm &= limit.is_none_or(|limit| pressure * 8 < limit);
    let grew = |of: fn(&Counters) -> Option<u64>| growth(of(&kept.seen), of(&reading.counters)) > 0;
    if grew(|counters| counters.oom) || grew(|counters| counters.oom_kill) {
        judged = Judgement { hold: Some(Cause::OutOfMemory), rollback: Some(Cause::OutOfMemory), is_calm: false };
    }
    (judged, near)
}

/// Whether `memory.high` is what presses: it was run into since the last tick, or nearly all of it is in use.
fn binds(kept: &Kept, reading: &Reading) -> bool {
    if growth(kept.seen.memory_high, reading.counters.memory_high) > 0 {
        return true;
    }
    match (reading.actual(ShapedControl::MemoryHigh), reading.memory_current_bytes) {
        (Actual::Value(high), Some(current)) => u128::from(current) * 1000 >= u128::from(high) * BINDING_PERMILLE,
        (Actual::Value(_), None) => true,
        (Actual::Absent | Actual::Unlimited, _) => false,
    }
}

/// CPU: its guard, and the time that the quota took.
fn judge_cpu(kept: &Kept, look: &Look<'_>) -> Judgement {
    let pressure = look.reading.cpu_pressure_permille;
    let mut judged = judge(look, pressure, look.rules.cpu, kept.found_cpu_permille, Cause::CpuPressure);
    if look.on_pressure == OnPressure::Hold {
        let throttled = throttled_permille(&kept.seen, &look.reading.counters, look.elapsed_ms);
        let most = u64::from(look.rules.throttled_permille);
        if throttled >= most {
            judged.hold = judged.hold.or(Some(Cause::Throttled));
        }
        judged.is_calm &= throttled * 2 < most.max(2);
    }
    judged
}

/// Time throttled, over all CPUs, in permille of the time that passed; by the count of periods (of 100 ms, the
/// kernel's default) where the kernel does not count the time.
fn throttled_permille(before: &Counters, after: &Counters, elapsed_ms: u64) -> u64 {
    if elapsed_ms == 0 {
        return 0;
    }
    let throttled_us = match (before.throttled_us, after.throttled_us) {
        (Some(_), Some(_)) => growth(before.throttled_us, after.throttled_us),
        _ => growth(before.nr_throttled, after.nr_throttled).saturating_mul(100_000),
    };
    // µs per ms are permille.
    throttled_us / elapsed_ms
}

fn growth(before: Option<u64>, after: Option<u64>) -> u64 {
    match (before, after) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => 0,
    }
}
