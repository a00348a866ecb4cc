//! Shaping plans, version 2: courses of setpoints for the controls of one target (design §8, §9).
//!
//! Does: fixes the form that is signed, checks it ([`check`]), tells what a control should be at an instant
//! ([`CheckedPlan::setpoint`]), and holds what a reply brings against the grant set that names it ([`verify`]).
//! May assume: nothing about its input.
//! Promises: a [`CheckedPlan`] has a setpoint for each of its controls at every instant from its start on, within the
//! control's range, and ends exactly at its target at the effective time.
//! Must never: know of backends or of the kernel.
//!
//! Version 1 held amounts of resources in place of controls' values, and nobody ever made one
//! (docs/decisions/0009-plan-version-2.md).

mod checked;
#[cfg(test)]
mod tests;
mod verified;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

pub use self::checked::{CheckedPlan, PlanFault, check};
pub use self::verified::{VerifiedPlan, digest_of, verify};
use crate::cbor::{Bounded, Version};
use crate::envelope::{CgroupPath, Name};
use crate::id::{DeploymentId, HostId, PlanId};
use crate::limits::{COURSES_MAX, SETPOINTS_MAX};
use crate::sign::SignedForm;

/// A shaping plan for one target on one host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Plan {
    /// Form version.
    #[n(0)]
    pub version: Version<2>,
    /// The deployment.
    #[n(1)]
    pub deployment: DeploymentId,
    /// The host.
    #[n(2)]
    pub host: HostId,
    /// The plan.
    #[n(3)]
    pub id: PlanId,
    /// The host's fencing number under which it was made: a higher one voids it.
    #[n(4)]
    pub epoch: u64,
    /// What it moves.
    #[n(5)]
    pub target: Target,
    /// One more for each plan given for this target: an older one never replaces a newer.
    #[n(6)]
    pub generation: u64,
    /// When it begins to move, Unix ms: from what is there then.
    #[n(7)]
    pub starts_at_ms: u64,
    /// When every control has reached its target, Unix ms.
    #[n(8)]
    pub effective_at_ms: u64,
    /// When it is over and the baseline holds again, Unix ms; absent: when it is no longer given.
    #[n(9)]
    pub ends_at_ms: Option<u64>,
    /// A plan that has not begun by then is not begun any more, Unix ms.
    #[n(10)]
    pub not_after_ms: u64,
    /// Each control with its setpoints.
    #[n(11)]
    pub courses: Bounded<Course, COURSES_MAX>,
    /// What pressure does to it.
    #[n(12)]
    pub on_pressure: OnPressure,
    /// How long in all it may be held by pressure before tightening is given up, ms.
    #[n(13)]
    pub hold_ms_max: u64,
    /// Whether it may take the place of values that an administrator has set for the target.
    #[n(14)]
    pub overrides: bool,
    /// The quorum decision that it carries, canonical bytes; its form is the policy room's.
    #[cbor(n(15), with = "minicbor::bytes")]
    pub decision: Option<Vec<u8>>,
}

impl SignedForm for Plan {
    const FORM: &'static str = "plan";
}

/// What a plan moves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A systemd unit, by the manager that owns it.
    #[n(1)]
    Unit(#[n(0)] Name),
    /// A group of Quotary's own, by its path below the cgroup root.
    #[n(2)]
    Cgroup(#[n(0)] CgroupPath),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unit(unit) => f.write_str(unit.as_str()),
            Self::Cgroup(path) => f.write_str(path.as_str()),
        }
    }
}

/// What pressure (PSI) above its guard does to a plan that tightens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum OnPressure {
    /// Tightening waits until the pressure is gone.
    #[n(0)]
    #[default]
    Hold,
    /// Tightening goes on, up to where harm is certain (an out-of-memory kill, or oomd about to make one).
    #[n(1)]
    Proceed,
}

/// The course of one control.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Course {
    /// What is moved.
    #[n(0)]
    pub control: ShapedControl,
    /// Setpoints in ascending order of time, the last one at the effective time; straight lines between them.
    #[n(1)]
    pub setpoints: Bounded<Setpoint, SETPOINTS_MAX>,
}

/// What a control should be at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Setpoint {
    /// When, Unix ms.
    #[n(0)]
    pub at_ms: u64,
    /// The value, in the control's unit.
    #[n(1)]
    pub value: u64,
}

/// Controls that plans move. A number keeps its meaning and its unit for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum ShapedControl {
    /// `cpu.weight`: 1 to 10 000, the kernel's default is 100.
    #[n(1)]
    CpuWeight,
    /// `cpu.idle`: 1 runs only when nobody else wants the CPU.
    #[n(2)]
    CpuIdle,
    /// `cpu.max`, as thousandths of a core: the second stage, since a quota throttles also where CPUs are idle.
    #[n(3)]
    CpuQuota,
    /// `memory.high`, in bytes.
    #[n(4)]
    MemoryHigh,
    /// `memory.low`, in bytes: what is protected from reclaim.
    #[n(5)]
    MemoryLow,
    /// `io.weight`: 1 to 10 000, the kernel's default is 100.
    #[n(6)]
    IoWeight,
    /// `io.max` for reads, in bytes per second and whole disk: the second stage.
    #[n(7)]
    IoReadMax,
    /// `io.max` for writes, in bytes per second and whole disk: the second stage.
    #[n(8)]
    IoWriteMax,
    /// Network egress of the target, in bits per second.
    #[n(9)]
    NetworkEgress,
    /// Storage space by project quota, in bytes.
    #[n(10)]
    Storage,
}

impl ShapedControl {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::CpuWeight,
        Self::CpuIdle,
        Self::CpuQuota,
        Self::MemoryHigh,
        Self::MemoryLow,
        Self::IoWeight,
        Self::IoReadMax,
        Self::IoWriteMax,
        Self::NetworkEgress,
        Self::Storage,
    ];

    /// The name in documents and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CpuWeight => "cpu-weight",
            Self::CpuIdle => "cpu-idle",
            Self::CpuQuota => "cpu-quota",
            Self::MemoryHigh => "memory-high",
            Self::MemoryLow => "memory-low",
            Self::IoWeight => "io-weight",
            Self::IoReadMax => "io-read-max",
            Self::IoWriteMax => "io-write-max",
            Self::NetworkEgress => "network-egress",
            Self::Storage => "storage",
        }
    }

    /// The file under which its writes are told (cgroup v2's name, where it has one).
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::CpuWeight => "cpu.weight",
            Self::CpuIdle => "cpu.idle",
            Self::CpuQuota => "cpu.max",
            Self::MemoryHigh => "memory.high",
            Self::MemoryLow => "memory.low",
            Self::IoWeight => "io.weight",
            Self::IoReadMax => "io.max rbps",
            Self::IoWriteMax => "io.max wbps",
            Self::NetworkEgress => "net.egress",
            Self::Storage => "project quota",
        }
    }

    /// The unit of its values.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::CpuWeight | Self::IoWeight => "weight",
            Self::CpuIdle => "0 or 1",
            Self::CpuQuota => "millicores",
            Self::MemoryHigh | Self::MemoryLow | Self::Storage => "bytes",
            Self::IoReadMax | Self::IoWriteMax => "bytes per second",
            Self::NetworkEgress => "bits per second",
        }
    }

    /// The least and the greatest value that a plan may ask for.
    ///
    /// A quota under a millisecond per period of 100 ms is refused by the kernel (10 millicores); a `memory.high`
    /// under a megabyte would stop any process; the rest follows cgroup v2's ranges.
    pub const fn range(self) -> (u64, u64) {
        match self {
            Self::CpuWeight | Self::IoWeight => (1, 10_000),
            Self::CpuIdle => (0, 1),
            Self::CpuQuota => (10, 10_000_000),
            Self::MemoryHigh => (1 << 20, 1 << 60),
            Self::MemoryLow => (0, 1 << 60),
            Self::IoReadMax | Self::IoWriteMax => (4096, 1 << 50),
            Self::NetworkEgress => (8_000, 1 << 50),
            Self::Storage => (1 << 20, 1 << 60),
        }
    }

    /// How far what is read back may be from the `asked` value and still be it: byte amounts are rounded down to pages, quotas to whole
    /// percents, and `tc` shows three digits behind the unit.
    pub const fn slack(self, asked: u64) -> u64 {
        match self {
            Self::MemoryHigh | Self::MemoryLow | Self::Storage => 65_536,
            Self::CpuQuota => 10,
            Self::NetworkEgress if asked / 1000 > 8 => asked / 1000,
            Self::NetworkEgress => 8,
            _ => 0,
        }
    }

    /// Whether less is tighter: so for all but `cpu.idle`.
    pub const fn is_tighter_when_less(self) -> bool {
        !matches!(self, Self::CpuIdle)
    }

    /// Whether it has steps in between: `cpu.idle` is on or off.
    pub const fn is_gradual(self) -> bool {
        !matches!(self, Self::CpuIdle)
    }
}

impl std::fmt::Display for ShapedControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
