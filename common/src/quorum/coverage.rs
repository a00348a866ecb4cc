//! Whether a plan is within what was approved: the one that carries the decision, and the one that carries none.

use std::collections::BTreeMap;

use super::change::{Change, Kind};
use super::covers::{Cover, Reach, Span};
use super::decision::VerifiedDecision;
use crate::envelope::{CgroupPath, Name};
use crate::id::HostId;
use crate::plan::{CheckedPlan, Course, OnPressure, Plan, ShapedControl, Target};
use crate::units::{Class, ResourceKind};

/// What an agent itself sees of a plan's target. Nothing of it is taken from the verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFacts {
    /// The host.
    pub host: HostId,
    /// The unit that the target is, if it is one.
    pub unit: Option<Name>,
    /// The target's cgroup.
    pub cgroup: CgroupPath,
    /// Under which uid everything in it runs, if under one.
    pub uid: Option<u32>,
    /// Where its controls stand now; absent for a control: where the change says that it stood before.
    pub actual: BTreeMap<ShapedControl, u64>,
    /// Where its controls stand at `now_ms`: what goes up from there is no squeeze, whatever the change says of before.
    pub present: BTreeMap<ShapedControl, u64>,
    /// When that was read, Unix ms.
    pub now_ms: u64,
}

/// Why a plan is not within what was approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCovered {
    /// It is of another deployment.
    #[error("the plan is of another deployment than the change")]
    Deployment,
    /// It is of another host than the one that looks at it.
    #[error("the plan is of another host")]
    Host,
    /// What it names is not what the host sees.
    #[error("the plan's target is not what the host sees")]
    Facts,
    /// The change does not cover the target.
    #[error("the change does not cover this target")]
    Target,
    /// The change says nothing of what the control moves.
    #[error("the change does not cover {0} of this target")]
    Control(ShapedControl),
    /// A setpoint is not between before and after.
    #[error("{control} would be {value}, which is not between what held before the change and what holds after it")]
    Span {
        /// Which control.
        control: ShapedControl,
        /// To which value.
        value: u64,
    },
    /// It would move faster than was approved.
    #[error("{0} would move faster than the change allows")]
    Slew(ShapedControl),
    /// It would be in force before the change, or begin before it was proposed.
    #[error("the plan is ahead of the change's effective time")]
    TooEarly,
    /// An emergency's plan must end with it.
    #[error("the plan lasts longer than the change does")]
    TooLong,
    /// It would go on under pressure where it was approved that it waits.
    #[error("the plan would not wait under pressure, and the change says that it does")]
    Pressure,
    /// It carries no decision, and a setpoint is not between what a policy in force gives.
    #[error("{control} would be {value}, and the policy gives {least} to {most} {unit}", unit = .control.unit())]
    Beyond {
        /// Which control.
        control: ShapedControl,
        /// To which value.
        value: u64,
        /// The least that the policy gives, in the control's unit.
        least: u64,
        /// The most; the control's own greatest value where there is no limit.
        most: u64,
    },
    /// It carries no decision, and would tighten a group in which there may be what a policy in force reaches.
    #[error("what the policy reaches may be in this group, and {0} of it would be tightened")]
    Above(ShapedControl),
}

/// Holds a plan against the decision that it carries, and against what the host itself sees of its target.
///
/// # Errors
/// [`NotCovered`]: of several covers that reach the target, that of the one which got furthest.
pub fn covers(decision: &VerifiedDecision, plan: &CheckedPlan, facts: &TargetFacts) -> Result<(), NotCovered> {
    let (change, checked, plan) = (decision.change(), plan, plan.plan());
    is_seen(change, plan, facts)?;
    if plan.effective_at_ms < change.effective_ms || plan.starts_at_ms < change.proposed_ms {
        return Err(NotCovered::TooEarly);
    }
    if let Some(until_ms) = change.until_ms
        && plan.ends_at_ms.is_none_or(|ends_at_ms| ends_at_ms > until_ms)
    {
        return Err(NotCovered::TooLong);
    }
    if change.on_pressure == OnPressure::Hold && plan.on_pressure == OnPressure::Proceed {
        return Err(NotCovered::Pressure);
    }
    let mut refused = NotCovered::Target;
    for cover in change.covers.iter().filter(|cover| reaches(cover, facts)) {
        let slew = |control| slew_of(control, |kind| change.slew.get(kind));
        let held = plan.courses.iter().try_for_each(|course| {
            let bounds = bounds(cover, course.control).ok_or(NotCovered::Control(course.control))?;
            if !gives_back(checked, course, bounds, facts) {
                within(course, bounds)?;
            }
            // Of a unit that came after the change took effect nothing is said of where it stood.
            let before = bounds.before.filter(|_| plan.starts_at_ms <= change.effective_ms);
            let from = facts.actual.get(&course.control).copied().or(before);
            not_faster(course, from.map(|from| (plan.starts_at_ms, from)), slew(course.control))
        });
        match held {
            Ok(()) => return Ok(()),
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

/// Holds a plan that carries no decision against a policy that is in force by one.
///
/// Where the policy reaches the target, every setpoint must be between what it gives from its effective time on: no less
/// than what it guarantees, no more than its limit. What it says nothing of is free, and so is every target that it does
/// not reach. Of several covers that reach the target each holds. What may contain targets is held by [`spares`] too.
///
/// # Errors
/// [`NotCovered::Beyond`] for the first setpoint outside; [`NotCovered::Deployment`], [`NotCovered::Host`] and
/// [`NotCovered::Facts`] when plan, policy and what the host sees do not belong together.
pub fn keeps(decision: &VerifiedDecision, plan: &CheckedPlan, facts: &TargetFacts) -> Result<(), NotCovered> {
    let (change, plan) = (decision.change(), plan.plan());
    is_seen(change, plan, facts)?;
    if change.kind == Kind::RevokePolicy {
        return Ok(());
    }
    for cover in change.covers.iter().filter(|cover| reaches(cover, facts)) {
        for course in plan.courses.iter() {
            let control = course.control;
            let Some((least, most)) = given(cover, control) else { continue };
            let outside = course.setpoints.iter().find(|at| !(least..=most).contains(&at.value));
            if let Some(value) = outside.map(|at| at.value) {
                return Err(NotCovered::Beyond { control, value, least, most });
            }
        }
    }
    Ok(())
}

/// Whether a decision says something of the target that the host sees.
pub fn is_reached(decision: &VerifiedDecision, facts: &TargetFacts) -> bool {
    decision.change().covers.iter().any(|cover| reaches(cover, facts))
}

/// Holds a plan that carries no decision against a policy in force that reaches something within its target, or may:
/// who limits a group limits all that is in it, so that such a plan only loosens what `stood` there before Quotary
/// moved it (what had no limit is left out).
///
/// # Errors
/// [`NotCovered::Above`] for the first control that would be tightened.
pub fn spares(
    decision: &VerifiedDecision,
    plan: &CheckedPlan,
    facts: &TargetFacts,
    stood: &BTreeMap<ShapedControl, u64>,
) -> Result<(), NotCovered> {
    let change = decision.change();
    if change.kind == Kind::RevokePolicy || !change.covers.iter().any(|cover| may_contain(facts, cover)) {
        return Ok(());
    }
    let tightens = plan.plan().courses.iter().find(|course| !loosens(course, stood));
    tightens.map_or(Ok(()), |course| Err(NotCovered::Above(course.control)))
}

/// Whether a course never goes to the tighter side of where its control `stands`; nowhere is looser than no limit.
pub fn loosens(course: &Course, stands: &BTreeMap<ShapedControl, u64>) -> bool {
    let Some(stands) = stands.get(&course.control).copied() else { return false };
    let is_tighter_when_less = course.control.is_tighter_when_less();
    course.setpoints.iter().all(|at| if is_tighter_when_less { at.value >= stands } else { at.value <= stands })
}

/// Whether what a cover reaches is, or can be, below the target. Where a unit stands, and whose groups come about,
/// nobody knows for sure: every slice may contain them, and a group that is nobody's may contain those of people.
fn may_contain(facts: &TargetFacts, cover: &Cover) -> bool {
    let path = facts.cgroup.as_str();
    let is_slice = path == "/" || path.ends_with(".slice");
    cover.host.is_none_or(|host| host == facts.host)
        && match &cover.reach {
            Reach::Cgroup(below) => {
                let rest = below.as_str().strip_prefix(path.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.starts_with('/'))
            }
            Reach::Unit(unit) => is_slice && facts.unit.as_ref() != Some(unit),
            Reach::Uid(_) => facts.uid.is_none() && (is_slice || facts.unit.is_none()),
        }
}

/// Between which values a control may be under a policy in force; `None`: it says nothing of it.
fn given(cover: &Cover, control: ShapedControl) -> Option<(u64, u64)> {
    let Some(kind) = resource_of(control) else {
        let Bounds { least, most, .. } = class_bounds(cover.class, control);
        return Some((least, most));
    };
    let (guarantee, limit) = (cover.guarantee[kind as usize], cover.limit[kind as usize]);
    if guarantee.is_none() && limit.is_none() {
        return None;
    }
    let (least, most) = control.range();
    let in_its_unit = |amount| if control == ShapedControl::CpuWeight { weight_of(amount) } else { amount };
    let after = |span: Option<Span>| span.and_then(|span| span.after).map(in_its_unit);
    Some((after(guarantee).unwrap_or(least), after(limit).unwrap_or(most)))
}

/// Whether plan, change and what the host sees belong together.
fn is_seen(change: &Change, plan: &Plan, facts: &TargetFacts) -> Result<(), NotCovered> {
    if plan.deployment != change.deployment {
        return Err(NotCovered::Deployment);
    }
    if plan.host != facts.host {
        return Err(NotCovered::Host);
    }
    let is_seen = match &plan.target {
        Target::Unit(unit) => facts.unit.as_ref() == Some(unit),
        Target::Cgroup(path) => facts.cgroup == *path,
    };
    if is_seen { Ok(()) } else { Err(NotCovered::Facts) }
}

fn reaches(cover: &Cover, facts: &TargetFacts) -> bool {
    let is_host = cover.host.is_none_or(|host| host == facts.host);
    is_host
        && match &cover.reach {
            Reach::Unit(unit) => facts.unit.as_ref() == Some(unit),
            Reach::Cgroup(path) => {
                let rest = facts.cgroup.as_str().strip_prefix(path.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Reach::Uid(uid) => facts.uid == Some(*uid),
        }
}

/// Between which values a control may be, and where it stood before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    least: u64,
    most: u64,
    before: Option<u64>,
}

impl Bounds {
    /// Those of a limit: no limit is above every limit.
    fn of_limit(span: Span) -> Self {
        let ends = [span.before.unwrap_or(u64::MAX), span.after.unwrap_or(u64::MAX)];
        Self { least: ends[0].min(ends[1]), most: ends[0].max(ends[1]), before: span.before }
    }
    /// Those of a guarantee: none is nothing.
    fn of_guarantee(span: Span) -> Self {
        let ends = [span.before.unwrap_or(0), span.after.unwrap_or(0)];
        Self { least: ends[0].min(ends[1]), most: ends[0].max(ends[1]), before: Some(ends[0]) }
    }
    /// Those of a weight: what was said of nobody has the kernel's default.
    fn of_weight(span: Span) -> Self {
        let weight = |millicores: Option<u64>| millicores.map_or(DEFAULT_WEIGHT, weight_of);
        let ends = [weight(span.before), weight(span.after)];
        Self { least: ends[0].min(ends[1]), most: ends[0].max(ends[1]), before: Some(ends[0]) }
    }
}

/// The kernel's default of `cpu.weight` and `io.weight`.
pub const DEFAULT_WEIGHT: u64 = 100;
/// So many millicores are one of `cpu.weight`.
pub const MILLICORES_PER_WEIGHT: u64 = 10;

/// `cpu.weight` of an amount of CPU (wire.md, settled question 5).
pub fn weight_of(millicores: u64) -> u64 {
    (millicores / MILLICORES_PER_WEIGHT).clamp(1, 10_000)
}

/// Which resource a control moves, here and nowhere else: `None` for those that follow from the class alone.
pub const fn resource_of(control: ShapedControl) -> Option<ResourceKind> {
    match control {
        ShapedControl::CpuWeight | ShapedControl::CpuQuota => Some(ResourceKind::Cpu),
        ShapedControl::MemoryHigh | ShapedControl::MemoryLow => Some(ResourceKind::Memory),
        ShapedControl::IoReadMax | ShapedControl::IoWriteMax => Some(ResourceKind::Disk),
        ShapedControl::NetworkEgress => Some(ResourceKind::Network),
        ShapedControl::Storage => Some(ResourceKind::Storage),
        ShapedControl::IoWeight | ShapedControl::CpuIdle => None,
    }
}

/// Whether a cover allows a control a value.
pub fn allows(cover: &Cover, control: ShapedControl, value: u64) -> bool {
    bounds(cover, control).is_some_and(|bounds| (bounds.least..=bounds.most).contains(&value))
}

/// What a cover says of a control; `None`: nothing.
fn bounds(cover: &Cover, control: ShapedControl) -> Option<Bounds> {
    let Some(kind) = resource_of(control) else { return Some(class_bounds(cover.class, control)) };
    let (guarantee, limit) = (cover.guarantee[kind as usize], cover.limit[kind as usize]);
    match control {
        ShapedControl::MemoryLow => guarantee.map(Bounds::of_guarantee),
        // The share in contention is the guarantee's; where there is none, the limit's.
        ShapedControl::CpuWeight => guarantee.or(limit).map(Bounds::of_weight),
        _ => limit.map(Bounds::of_limit),
    }
}

/// What a class says of a control that no amount stands behind: disks are shared evenly, but nobody is put below the
/// default who was promised something, or above it who was not; only who has what is left may be idle.
fn class_bounds(class: Class, control: ShapedControl) -> Bounds {
    let (least, most) = match (control, class) {
        (ShapedControl::CpuIdle, Class::BestEffort) => (0, 1),
        (ShapedControl::CpuIdle, _) => (0, 0),
        (_, Class::Guaranteed) => (DEFAULT_WEIGHT, 10_000),
        (_, Class::Burstable) => (DEFAULT_WEIGHT, DEFAULT_WEIGHT),
        (_, Class::BestEffort) => (1, DEFAULT_WEIGHT),
    };
    Bounds { least, most, before: None }
}

fn within(course: &Course, bounds: Bounds) -> Result<(), NotCovered> {
    let outside = course.setpoints.iter().find(|at| !(bounds.least..=bounds.most).contains(&at.value));
    outside.map_or(Ok(()), |at| Err(NotCovered::Span { control: course.control, value: at.value }))
}

/// Whether a course outside the change's bounds only gives back on its way to them: from where its control stands now it never goes below that,
/// and never above them. A group that a grant holds tighter than the change will comes up so.
fn gives_back(plan: &CheckedPlan, course: &Course, bounds: Bounds, facts: &TargetFacts) -> bool {
    let control = course.control;
    let Some(present) = facts.present.get(&control).copied().filter(|_| control.is_tighter_when_less()) else {
        return false;
    };
    // Without the slack of rounding: judged again with each reading, it would go lower each time.
    let least = bounds.least.min(present);
    let to_come = course.setpoints.iter().filter(|at| at.at_ms >= facts.now_ms).map(|at| at.value);
    let line = plan.setpoint(control, present, facts.now_ms.max(plan.plan().starts_at_ms));
    to_come.chain(line).all(|value| (least..=bounds.most).contains(&value))
}

/// How fast the controls of a plan may be tightened that carries a decision, in thousandths of their units per second;
/// where nothing was decided of that a control is left out.
pub fn slews(decision: &VerifiedDecision, plan: &CheckedPlan) -> BTreeMap<ShapedControl, u64> {
    let slew = |control| slew_of(control, |kind| decision.change().slew.get(kind));
    let of = |control| Some((control, u64::try_from(slew(control)?).unwrap_or(u64::MAX)));
    plan.controls().filter_map(of).collect()
}

/// How fast a control may move, in thousandths of its unit per second; `None`: nothing was said.
fn slew_of(control: ShapedControl, of: impl Fn(ResourceKind) -> Option<u64>) -> Option<u128> {
    let per_second = resource_of(control).and_then(of).map(u128::from)?;
    let is_weight = control == ShapedControl::CpuWeight;
    Some(if is_weight { per_second * 1000 / u128::from(MILLICORES_PER_WEIGHT) } else { per_second * 1000 })
}

/// Whether every step, and the one from where the control stands at the start, is slow enough. What rounding to whole
/// units makes of a step is allowed.
fn not_faster(course: &Course, from: Option<(u64, u64)>, slew: Option<u128>) -> Result<(), NotCovered> {
    let Some(slew) = slew else { return Ok(()) };
    let points = from.into_iter().chain(course.setpoints.iter().map(|at| (at.at_ms, at.value)));
    let mut before = None;
    for (at_ms, value) in points {
        if let Some((before_ms, before_value)) = before.replace((at_ms, value)) {
            let allowed = (slew * u128::from(at_ms.saturating_sub(before_ms))).div_ceil(1_000_000);
            if u128::from(value.abs_diff(before_value)) > allowed {
                return Err(NotCovered::Slew(course.control));
            }
        }
    }
    Ok(())
}
