//! What every plan has, whoever asks for it: put together here, and checked.

use quotary_common::cbor::{Bounded, Version};
use quotary_common::id::{DeploymentId, HostId, PlanId};
use quotary_common::plan::{CheckedPlan, Course, OnPressure, Plan, Target, check};
use quotary_common::reason::{Reason, Refusal};

/// A plan without its courses.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) deployment: DeploymentId,
    pub(super) host: HostId,
    pub(super) epoch: u64,
    pub(super) target: Target,
    /// The greatest generation that the target has had.
    pub(super) last_generation: u64,
    pub(super) starts_at_ms: u64,
    pub(super) effective_at_ms: u64,
    pub(super) ends_at_ms: Option<u64>,
    pub(super) on_pressure: OnPressure,
    /// How late a host may begin it, ms: it was away meanwhile.
    pub(super) begin_within_ms: u64,
    pub(super) hold_ms_max: u64,
    pub(super) overrides: bool,
    pub(super) decision: Option<Vec<u8>>,
    pub(super) now_ms: u64,
}

impl Frame {
    /// The plan with its courses; its generation is above the last one's.
    ///
    /// # Errors
    /// `plan`: it does not hold together.
    pub(super) fn plan(self, courses: Vec<Course>) -> Result<CheckedPlan, Refusal> {
        let refuse = |why: &str| Refusal::new(Reason::Plan, why);
        let generation = self.last_generation.saturating_add(1).max(self.now_ms);
        let (target, counted) = (self.target.to_string(), generation.to_be_bytes());
        let id = PlanId::of(&[self.host.as_bytes(), target.as_bytes(), &counted]);
        let plan = Plan {
            version: Version,
            deployment: self.deployment,
            host: self.host,
            id,
            epoch: self.epoch,
            target: self.target,
            generation,
            starts_at_ms: self.starts_at_ms,
            effective_at_ms: self.effective_at_ms,
            ends_at_ms: self.ends_at_ms,
            not_after_ms: self.effective_at_ms.saturating_add(self.begin_within_ms),
            courses: Bounded::new(courses).ok_or_else(|| refuse("it moves too many controls"))?,
            on_pressure: self.on_pressure,
            hold_ms_max: self.hold_ms_max,
            overrides: self.overrides,
            decision: self.decision,
        };
        check(plan).map_err(|fault| refuse(&fault.to_string()))
    }
}
