//! A plan by hand: what an operator asks for, held against what the host can do.

use quotary_common::cbor::Bounded;
use quotary_common::envelope::BackendKind;
use quotary_common::id::DeploymentId;
use quotary_common::limits::PLANS_MAX;
use quotary_common::plan::{CheckedPlan, Course, Setpoint, ShapedControl, Target};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::PlanRequest;

use super::book::PlanBook;
use super::frame::Frame;
use crate::registry::Host;

/// How late a host may begin a plan that it was given, ms: it was away meanwhile.
const BEGIN_WITHIN_MS: u64 = 3_600_000;
/// How far ahead a plan may start, ms.
const START_WITHIN_MS: u64 = 31 * 24 * 3_600_000;

/// What a draft is made from.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The host that the request names.
    pub host: &'a Host,
    /// What the operator asks for.
    pub request: &'a PlanRequest,
    /// The plans that there are.
    pub book: &'a PlanBook,
    /// Now, Unix ms.
    pub now_ms: u64,
}

/// A plan in straight lines from what is there to what is asked for.
///
/// # Errors
/// A [`Refusal`]: `plan` when the host does not take it or it would not hold together, `busy` when the host has as many
/// plans as it may.
pub fn draft(asked: &Asked<'_>) -> Result<CheckedPlan, Refusal> {
    let (host, request, now_ms) = (asked.host, asked.request, asked.now_ms);
    takes(host, request, now_ms)?;
    let id = host.record.host;
    let others = asked.book.given(&id).filter(|record| record.plan().target != request.target).count();
    if others >= PLANS_MAX {
        return Err(Refusal::new(Reason::Busy, format!("{id} has {others} plans, and may have {PLANS_MAX}")));
    }
    let refuse = |why: &str| Refusal::new(Reason::Plan, why);
    let moves = |control| request.values.contains_key(&control);
    if moves(ShapedControl::CpuWeight) && moves(ShapedControl::CpuIdle) {
        return Err(refuse("an idle group has no weight: cpu-weight or cpu-idle, not both"));
    }
    let starts_at_ms = request.starts_at_ms.unwrap_or(now_ms).max(now_ms);
    if starts_at_ms - now_ms > START_WITHIN_MS {
        return Err(refuse("it starts more than 31 days ahead"));
    }
    let effective_at_ms = starts_at_ms.checked_add(request.over_ms).ok_or_else(|| refuse("it never takes effect"))?;
    let ends_at_ms = match request.hold_for_ms {
        None => None,
        Some(hold_ms) => Some(effective_at_ms.checked_add(hold_ms).ok_or_else(|| refuse("it never ends"))?),
    };
    let courses = request
        .values
        .iter()
        .map(|(control, value)| {
            let setpoints = Bounded::truncating(vec![Setpoint { at_ms: effective_at_ms, value: *value }]).0;
            Course { control: *control, setpoints }
        })
        .collect();
    Frame {
        deployment: asked.deployment,
        host: id,
        epoch: host.progress.epoch,
        target: request.target.clone(),
        last_generation: asked.book.last_generation(&id, &request.target),
        starts_at_ms,
        effective_at_ms,
        ends_at_ms,
        on_pressure: request.on_pressure,
        begin_within_ms: BEGIN_WITHIN_MS,
        hold_ms_max: request.hold_ms_max,
        overrides: request.overrides,
        decision: None,
        now_ms,
    }
    .plan(courses)
}

/// Whether the host takes such a plan, by what it stated last. Controls that it has not are left out there, unless none is left.
fn takes(host: &Host, request: &PlanRequest, now_ms: u64) -> Result<(), Refusal> {
    let id = host.record.host;
    let refuse = |why: &str| Err(Refusal::new(Reason::Plan, format!("{id} {why}")));
    if let Some((_, why)) = &host.progress.revoked {
        return refuse(&format!("was revoked: {why}"));
    }
    let Some(seen) = host.progress.seen.as_ref().filter(|_| host.is_trusted(now_ms)) else {
        return refuse("is not trusted now: `quotary explain` says why");
    };
    let lacks = |control: &ShapedControl| seen.lacks.as_ref().is_some_and(|lacks| lacks.contains(control));
    if !request.values.is_empty() && request.values.keys().all(lacks) {
        return refuse("has none of these controls: `quotary agent show` on it says why");
    }
    match (seen.backend, &request.target) {
        (BackendKind::Systemd, _) | (BackendKind::Direct, Target::Cgroup(_)) => Ok(()),
        (BackendKind::Direct, Target::Unit(_)) => {
            refuse("has no systemd that its agent can ask: there only groups of Quotary's own can be shaped (--cgroup)")
        }
        (BackendKind::None, _) => refuse("can set no limits: `quotary agent status` on it says why"),
    }
}
