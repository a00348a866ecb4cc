//! Shaping plans, version 1: phased setpoints, and an optional opaque quorum decision (wire.md, Forms).
//!
//! Nothing makes plans yet; the form is fixed so that agents of this version read those of the next.

use minicbor::{Decode, Encode};

use crate::cbor::{Bounded, Version};
use crate::envelope::{CgroupPath, Name};
use crate::id::{DeploymentId, HostId, PlanId};
use crate::limits::SETPOINTS_MAX;
use crate::sign::SignedForm;
use crate::units::Resources;

/// A shaping plan for one target on one host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Plan {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// The deployment.
    #[n(1)]
    pub deployment: DeploymentId,
    /// The host.
    #[n(2)]
    pub host: HostId,
    /// The plan.
    #[n(3)]
    pub id: PlanId,
    /// The host's fencing number under which it was made.
    #[n(4)]
    pub epoch: u64,
    /// What it moves.
    #[n(5)]
    pub target: Target,
    /// One more for each plan given for this target: an older one never replaces a newer.
    #[n(6)]
    pub generation: u64,
    /// Setpoints in ascending order of time.
    #[n(7)]
    pub setpoints: Bounded<Setpoint, SETPOINTS_MAX>,
    /// The quorum decision that it carries, canonical bytes; its form is the policy room's.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub decision: Option<Vec<u8>>,
    /// A plan that has not begun by then is not begun any more, Unix ms.
    #[n(9)]
    pub not_after_ms: u64,
}

/// What a plan moves.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Target {
    /// A systemd unit, by the manager that owns it.
    #[n(1)]
    Unit(#[n(0)] Name),
    /// A cgroup that no unit owns.
    #[n(2)]
    Cgroup(#[n(0)] CgroupPath),
}

impl SignedForm for Plan {
    const FORM: &'static str = "plan";
}

/// What the controls should be from an instant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Setpoint {
    /// From when, Unix ms.
    #[n(0)]
    pub at_ms: u64,
    /// The amounts.
    #[n(1)]
    pub resources: Resources,
}
