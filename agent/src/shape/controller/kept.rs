//! What a journal keeps of a target's shaping: all of it, as plain values.

use minicbor::{Decode, Encode};
use quotary_common::plan::{Setpoint, ShapedControl};

use super::note::{Cause, Standing};
use super::reading::{Counters, Value};

/// Everything that the controller knows of one target. Instants are of this boot's `CLOCK_BOOTTIME` unless they say
/// Unix: after a reboot there is nothing to resume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Kept {
    /// One for each control that a plan of this target has moved.
    #[n(0)]
    pub tracks: Vec<Track>,
    /// How long pressure has held this plan, ms.
    #[n(1)]
    pub held_ms: u64,
    /// The last decision, Unix ms.
    #[n(2)]
    pub seen_unix_ms: u64,
    /// The last decision, ms.
    #[n(3)]
    pub seen_boottime_ms: u64,
    /// The kernel's counts then.
    #[n(4)]
    pub seen: Counters,
    /// The hold of memory controls.
    #[n(5)]
    pub memory: Option<Hold>,
    /// The hold of CPU controls.
    #[n(6)]
    pub cpu: Option<Hold>,
    /// The hold of I/O controls.
    #[n(7)]
    pub io: Option<Hold>,
    /// CPU pressure before the first plan, thousandths.
    #[n(8)]
    pub found_cpu_permille: u16,
    /// I/O pressure before the first plan, thousandths.
    #[n(9)]
    pub found_io_permille: u16,
    /// The wall clock went back: what that loosens is loosened in steps.
    #[n(10)]
    pub is_easing: bool,
    /// How much of the decay is over, ms; absent while the plan is followed.
    #[n(11)]
    pub decayed_ms: Option<u64>,
    /// The reclaim that was asked for.
    #[n(12)]
    pub reclaim: Reclaim,
}

/// Tightening of a class of controls waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hold {
    /// For what.
    #[n(0)]
    pub by: Cause,
    /// Since when the pressure is gone, ms; absent while it is there.
    #[n(1)]
    pub calm_since_ms: Option<u64>,
    /// Whether oomd came so near that nothing of the target is tightened.
    #[n(2)]
    pub is_oomd: bool,
}

/// What reclaim was asked for at the last tick, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Reclaim {
    /// Bytes asked for; 0: none.
    #[n(0)]
    pub asked_bytes: u64,
    /// `memory.current` then.
    #[n(1)]
    pub current_bytes: u64,
    /// Ticks in a row in which next to nothing came free.
    #[n(2)]
    pub stalled_ticks: u8,
}

/// A value that is good when pressure stays away for long enough after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Trial {
    /// The value.
    #[n(0)]
    pub value: Value,
    /// Since when, ms.
    #[n(1)]
    pub since_ms: u64,
}

/// One control of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Track {
    /// Which.
    #[n(0)]
    pub control: ShapedControl,
    /// What it goes back to.
    #[n(1)]
    pub baseline: Value,
    /// What was found when the plan took it up: where its line starts.
    #[n(2)]
    pub found: u64,
    /// When that was, Unix ms.
    #[n(3)]
    pub found_at_unix_ms: u64,
    /// How far the plan takes it from there.
    #[n(4)]
    pub span: u64,
    /// What should stand there: what was written last, or found when nothing was.
    #[n(5)]
    pub expected: Value,
    /// What stood there before the last write, while that may still show.
    #[n(6)]
    pub before: Option<Value>,
    /// The last write, ms.
    #[n(7)]
    pub written_at_ms: Option<u64>,
    /// The last tightening, ms.
    #[n(8)]
    pub tightened_at_ms: Option<u64>,
    /// The last value after which pressure stayed away for as long as it takes to show.
    #[n(9)]
    pub good: Value,
    /// Where its line was when it was last written, or held.
    #[n(10)]
    pub line: u64,
    /// Where the plan takes it; absent when the plan does not move it.
    #[n(11)]
    pub target: Option<u64>,
    /// Its step while it catches up, permille.
    #[n(12)]
    pub stride_permille: u16,
    /// Not tightened before, ms.
    #[n(13)]
    pub retry_at_ms: u64,
    /// The last such wait, ms; 0: none yet.
    #[n(14)]
    pub retry_wait_ms: u64,
    /// What it waits for so.
    #[n(15)]
    pub retry_by: Option<Cause>,
    /// Rollbacks since pressure was last gone.
    #[n(16)]
    pub rollbacks: u8,
    /// Another writer has it: looked at again then, ms.
    #[n(17)]
    pub look_again_at_ms: Option<u64>,
    /// The last such wait, ms; 0: none yet.
    #[n(18)]
    pub contested_wait_ms: u64,
    /// When it was ours again, ms.
    #[n(19)]
    pub regained_at_ms: u64,
    /// Not tightened any more under this plan.
    #[n(20)]
    pub given_up: Option<Cause>,
    /// Whether pressure held it at any time of this plan.
    #[n(21)]
    pub was_held: bool,
    /// When its target was written, or found there, Unix ms; absent while another value stands there.
    #[n(22)]
    pub reached_at_unix_ms: Option<u64>,
    /// How late it is, or was when it reached its target, ms.
    #[n(23)]
    pub late_by_ms: Option<u64>,
    /// How it stands.
    #[n(24)]
    pub standing: Standing,
    /// Whether floor or ceiling have been held against this plan, and told.
    #[n(25)]
    pub is_bounded: bool,
    /// Where its decay began.
    #[n(26)]
    pub decay_from: u64,
    /// A write was refused: not tried again before, ms.
    #[n(27)]
    pub refused_until_ms: u64,
    /// The last such wait, ms; 0: none since a write was seen.
    #[n(28)]
    pub refused_wait_ms: u64,
    /// The value that is to prove itself good, and since when pressure is away, ms.
    #[n(29)]
    pub trial: Option<Trial>,
    /// Whether it has reached its target under this plan, even if pressure took it back since.
    #[n(30)]
    pub was_reached: bool,
    /// Since when the last write is looked for and does not show, ms.
    #[n(31)]
    pub unseen_since_ms: Option<u64>,
    /// What was to be written when the last write failed: it may have been made all the same.
    #[n(32)]
    pub tried: Option<Value>,
    /// From where, and since when, Unix ms, it goes no faster than people decided; absent where nothing was decided of
    /// that.
    #[n(33)]
    pub paced: Option<Setpoint>,
}
