//! What the controller is told of a target, and what it answers.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use quotary_common::plan::{CheckedPlan, ShapedControl};

use super::note::Note;

/// What a control shows, in the units of [`ShapedControl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actual {
    /// It is not there, and writing it would not make it appear: no such controller on this host. (`cpu.weight` of a
    /// unit whose siblings have the controller off is not absent: systemd turns it on with the first write.)
    Absent,
    /// It is there and limits nothing (`max`, or never set).
    Unlimited,
    /// This value.
    Value(u64),
}

/// A value that a control has or gets, in the units of [`ShapedControl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Value {
    /// It limits nothing (`max`; for a weight: not set).
    #[n(1)]
    Unlimited,
    /// This value.
    #[n(2)]
    Value(#[n(0)] u64),
}

impl Value {
    /// What a reading shows; `None` for a control that is absent.
    pub fn shown_by(actual: Actual) -> Option<Self> {
        match actual {
            Actual::Absent => None,
            Actual::Unlimited => Some(Self::Unlimited),
            Actual::Value(value) => Some(Self::Value(value)),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::Value(value) => write!(f, "{value}"),
        }
    }
}

/// Counts that the kernel keeps of a target; absent where it does not. They only grow; one that is less than before
/// is taken as begun anew (a service restart makes a new group).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Counters {
    /// `memory.events` `high`: how often it was throttled above `memory.high`.
    #[n(0)]
    pub memory_high: Option<u64>,
    /// `memory.events` `oom`: how often memory could not be had.
    #[n(1)]
    pub oom: Option<u64>,
    /// `memory.events` `oom_kill`: processes killed for it.
    #[n(2)]
    pub oom_kill: Option<u64>,
    /// `cpu.stat` `nr_throttled`: periods in which the quota ran out.
    #[n(3)]
    pub nr_throttled: Option<u64>,
    /// `cpu.stat` `throttled_usec`: for how long, over all CPUs, µs.
    #[n(4)]
    pub throttled_us: Option<u64>,
}

/// One target at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// What each control shows; one that is not in it counts as [`Actual::Absent`].
    pub actual: BTreeMap<ShapedControl, Actual>,
    /// `memory.current`.
    pub memory_current_bytes: Option<u64>,
    /// What the target sends into the network at most, bits per second: over the last seconds, and never less than it does.
    pub egress_bits_per_second: Option<u64>,
    /// What the target's project uses, bytes.
    pub storage_used_bytes: Option<u64>,
    /// Whether the reclaim that the last decision asked for freed less than that (the kernel's `EAGAIN`); absent where
    /// none was asked for, or it still runs.
    pub reclaim_fell_short: Option<bool>,
    /// PSI "some" avg10 of memory, thousandths; absent where the kernel has no PSI: then it holds nothing.
    pub memory_pressure_permille: Option<u16>,
    /// PSI "some" avg10 of CPU, thousandths.
    pub cpu_pressure_permille: Option<u16>,
    /// PSI "some" avg10 of I/O, thousandths.
    pub io_pressure_permille: Option<u16>,
    /// The kernel's counts.
    pub counters: Counters,
    /// At which memory pressure systemd-oomd kills the target: its limit, thousandths, where
    /// `ManagedOOMMemoryPressure=kill` of the unit or an ancestor asks for it.
    pub oomd_limit_permille: Option<u16>,
}

impl Reading {
    /// What a control shows.
    pub fn actual(&self, control: ShapedControl) -> Actual {
        self.actual.get(&control).copied().unwrap_or(Actual::Absent)
    }
}

/// The instant, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, Unix ms: where the plan is.
    pub unix_ms: u64,
    /// `CLOCK_BOOTTIME`, ms: dwell, holds, back-off and decay.
    pub boottime_ms: u64,
}

/// What the target is to do.
#[derive(Debug, Clone, Copy)]
pub enum Phase<'p> {
    /// Follow its plan.
    Plan(&'p CheckedPlan),
    /// Go back to the baseline in a line: the lease is over, or the verifier is gone.
    Decay,
}

/// One control to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// Which.
    pub control: ShapedControl,
    /// What is to stand there.
    pub value: Value,
}

/// What is to be done for a target at a tick. The controller takes a write as done; one that was not is told to it
/// by [`Shaping::not_written`](super::Shaping::not_written).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// At most one write, so that a change of pressure has one cause.
    pub write: Option<Write>,
    /// How much to reclaim (`memory.reclaim`), in a thread that may block; the write of `memory.high` comes at a later
    /// tick, when it makes nobody wait.
    pub reclaim_bytes: Option<u64>,
    /// What changed, each told once.
    pub notes: Vec<Note>,
}
