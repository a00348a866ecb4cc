//! What the controller tells: changes, each once, and the state for people.

use minicbor::{Decode, Encode};
use quotary_common::plan::ShapedControl;

use super::reading::Value;

/// Why tightening is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Cause {
    /// Memory pressure at its guard.
    #[n(1)]
    MemoryPressure,
    /// CPU pressure at its guard.
    #[n(2)]
    CpuPressure,
    /// I/O pressure at its guard.
    #[n(3)]
    IoPressure,
    /// The quota throttles more than the rules allow.
    #[n(4)]
    Throttled,
    /// Memory could not be had, or a process was killed for it.
    #[n(5)]
    OutOfMemory,
    /// systemd-oomd is a quarter of the way to killing the target.
    #[n(6)]
    Oomd,
    /// What was to be reclaimed does not come free.
    #[n(7)]
    ReclaimStalled,
}

impl Cause {
    /// Its fixed code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::MemoryPressure => "memory-pressure",
            Self::CpuPressure => "cpu-pressure",
            Self::IoPressure => "io-pressure",
            Self::Throttled => "throttled",
            Self::OutOfMemory => "out-of-memory",
            Self::Oomd => "oomd",
            Self::ReclaimStalled => "reclaim-stalled",
        }
    }
}

/// Why a control is not at its target at the effective time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum LateBecause {
    /// Pressure held it.
    #[n(1)]
    Held,
    /// Pressure held it for so long that tightening was given up.
    #[n(2)]
    GivenUp,
    /// Another writer has it.
    #[n(3)]
    Contested,
    /// The plan asks for more than the greatest step, or began too late, or a write was refused.
    #[n(4)]
    Clipped,
}

impl LateBecause {
    /// Its fixed code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::GivenUp => "given-up",
            Self::Contested => "contested",
            Self::Clipped => "clipped",
        }
    }
}

/// Something that changed, told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Tightening of a control waits.
    Held {
        /// Which.
        control: ShapedControl,
        /// For what.
        by: Cause,
    },
    /// It goes on.
    Resumed {
        /// Which.
        control: ShapedControl,
        /// How long it waited, ms.
        held_ms: u64,
    },
    /// Pressure made it release.
    RolledBack {
        /// Which.
        control: ShapedControl,
        /// From what.
        from: Value,
        /// To what.
        to: Value,
        /// For what.
        by: Cause,
    },
    /// The effective time passed and it is not at its target.
    Late {
        /// Which.
        control: ShapedControl,
        /// By how much time when it was first seen, ms; how late in the end stands in [`Note::Reached`].
        by_ms: u64,
        /// Where it stands.
        at: Value,
        /// Where it should.
        target: u64,
        /// Why.
        because: LateBecause,
    },
    /// It is at its target.
    Reached {
        /// Which.
        control: ShapedControl,
        /// How long after the effective time, ms; 0 when in time.
        late_by_ms: u64,
    },
    /// Another writer changed it: it is not written any more.
    Contested {
        /// Which.
        control: ShapedControl,
        /// What should stand there.
        expected: Value,
        /// What does.
        found: Value,
    },
    /// It shows our value or the baseline again: it is ours again.
    Regained {
        /// Which.
        control: ShapedControl,
    },
    /// Pressure held it for as long as the plan allows: it is not tightened any more under this plan.
    GivenUp {
        /// Which.
        control: ShapedControl,
        /// Where it stays.
        at: Value,
        /// For what.
        by: Cause,
    },
    /// The plan asks for less than the local floor: it goes to the floor.
    Floored {
        /// Which.
        control: ShapedControl,
        /// What the plan asks for.
        asked: u64,
        /// The floor.
        floor: u64,
    },
    /// The plan asks for more than there is: it goes to the ceiling.
    Capped {
        /// Which.
        control: ShapedControl,
        /// What the plan asks for.
        asked: u64,
        /// The ceiling.
        ceiling: u64,
    },
    /// The control is not there: it is left out.
    Unsupported {
        /// Which.
        control: ShapedControl,
    },
    /// It is on its way back to the baseline.
    Decaying {
        /// Which.
        control: ShapedControl,
    },
    /// It is at its baseline again.
    AtBaseline {
        /// Which.
        control: ShapedControl,
    },
}

impl Note {
    /// Its fixed code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Held { .. } => "held",
            Self::Resumed { .. } => "resumed",
            Self::RolledBack { .. } => "rolled-back",
            Self::Late { .. } => "late",
            Self::Reached { .. } => "reached",
            Self::Contested { .. } => "contested",
            Self::Regained { .. } => "regained",
            Self::GivenUp { .. } => "given-up",
            Self::Floored { .. } => "floored",
            Self::Capped { .. } => "capped",
            Self::Unsupported { .. } => "unsupported",
            Self::Decaying { .. } => "decaying",
            Self::AtBaseline { .. } => "at-baseline",
        }
    }

    /// Which control it is about.
    pub const fn control(&self) -> ShapedControl {
        match self {
            Self::Held { control, .. }
            | Self::Resumed { control, .. }
            | Self::RolledBack { control, .. }
            | Self::Late { control, .. }
            | Self::Reached { control, .. }
            | Self::Contested { control, .. }
            | Self::Regained { control }
            | Self::GivenUp { control, .. }
            | Self::Floored { control, .. }
            | Self::Capped { control, .. }
            | Self::Unsupported { control }
            | Self::Decaying { control }
            | Self::AtBaseline { control } => *control,
        }
    }
}

/// How a control stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Standing {
    /// It follows its line.
    #[n(1)]
    Moving,
    /// Its tightening waits.
    #[n(2)]
    Held {
        /// Since when, ms of `CLOCK_BOOTTIME`.
        #[n(0)]
        since_boottime_ms: u64,
        /// For what.
        #[n(1)]
        by: Cause,
    },
    /// Another writer has it.
    #[n(3)]
    Contested,
    /// It is not tightened any more under this plan.
    #[n(4)]
    GivenUp {
        /// For what.
        #[n(0)]
        by: Cause,
    },
    /// It is at its target.
    #[n(5)]
    Reached,
    /// It is not there.
    #[n(6)]
    Unsupported,
    /// It is on its way back to the baseline.
    #[n(7)]
    Decaying,
    /// It is at its baseline, and no plan moves it.
    #[n(8)]
    AtBaseline,
}

impl Standing {
    /// Its fixed code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Moving => "moving",
            Self::Held { .. } => "held",
            Self::Contested => "contested",
            Self::GivenUp { .. } => "given-up",
            Self::Reached => "reached",
            Self::Unsupported => "unsupported",
            Self::Decaying => "decaying",
            Self::AtBaseline => "at-baseline",
        }
    }
}

/// One control of a target, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlState {
    /// Which.
    pub control: ShapedControl,
    /// How it stands.
    pub standing: Standing,
    /// What it goes back to.
    pub baseline: Value,
    /// What was written last, or found when nothing was written yet.
    pub present: Value,
    /// Where its plan's line was at the last tick, within floor and ceiling.
    pub setpoint: Option<u64>,
    /// Where the plan takes it, within floor and ceiling.
    pub target: Option<u64>,
    /// How late it is, ms; absent while it is in time.
    pub late_by_ms: Option<u64>,
}

/// A target, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its controls.
    pub controls: Vec<ControlState>,
    /// How long pressure has held this plan in all, ms.
    pub held_ms: u64,
}
