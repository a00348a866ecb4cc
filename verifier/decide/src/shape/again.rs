//! Plans that take a running one's place: the rest of the way made anew, and the stand still.

use quotary_common::cbor::Bounded;
use quotary_common::plan::{CheckedPlan, Course, Plan, Setpoint, ShapedControl, Target};
use quotary_common::quorum::change::Change;
use quotary_common::quorum::coverage::allows;
use quotary_common::quorum::covers::{Cover, Reach};

use super::frame::Frame;
use super::of_change::{BEGIN_WITHIN_MS, HostNow, LATE_MS, Scene, Way, stands, takes};
use super::phase::Transition;
use super::record::PlanRecord;

/// The plan of a unit that goes on along these ways under its `change`, from now on: setpoints that have passed are left out, and a control that is not
/// among them goes on as it was to go. From beyond what was decided it goes back in a straight line: hosts take no value beyond. `None` where the host
/// does not take it.
pub fn plan_again(running: &PlanRecord, change: &Change, ways: &[Way], scene: &Scene<'_>) -> Option<CheckedPlan> {
    let plan = running.plan();
    let now = scene.hosts.get(&plan.host)?;
    takes(now.host, &plan.target, scene.now_ms).ok()?;
    let starts_at_ms = Transition::start(plan.effective_at_ms, scene.now_ms);
    let course = |old: &Course| {
        let way = ways.iter().find(|way| way.control == old.control);
        let setpoints = way.map_or(&old.setpoints[..], |way| way.phased.setpoints());
        let mut to_come: Vec<Setpoint> =
            setpoints.iter().filter(|setpoint| setpoint.at_ms > starts_at_ms).copied().collect();
        if way.is_some() && !is_covered(change, plan, old.control, (&to_come, scene)) {
            to_come.drain(..to_come.len().saturating_sub(1));
        }
        Course { control: old.control, setpoints: Bounded::truncating(to_come).0 }
    };
    Frame { starts_at_ms, ..frame_of(plan, now, scene) }.plan(plan.courses.iter().map(course).collect()).ok()
}

/// The plan of a unit that stays where it is from now on, by the `decision` (canonical bytes) of the `change` that is held. `None` where the host does
/// not take it.
pub fn plan_still(
    running: &PlanRecord,
    (change, decision): (&Change, Option<&[u8]>),
    scene: &Scene<'_>,
) -> Option<CheckedPlan> {
    let plan = running.plan();
    let now = scene.hosts.get(&plan.host)?;
    takes(now.host, &plan.target, scene.now_ms).ok()?;
    let effective_at_ms = plan.effective_at_ms.max(scene.now_ms.saturating_add(LATE_MS));
    let starts_at_ms = Transition::start(effective_at_ms, scene.now_ms);
    let course = |course: &Course| {
        let stands = stands(running, course.control, scene.now_ms)?;
        let first = course.setpoints.first()?.value;
        // Where it is beyond what was decided, the nearest that its host takes is where it was to go first.
        let still = Setpoint { at_ms: effective_at_ms, value: stands };
        let is_covered = is_covered(change, plan, course.control, (&[still], scene));
        let setpoint = if is_covered { still } else { Setpoint { value: first, ..still } };
        Some(Course { control: course.control, setpoints: Bounded::truncating(vec![setpoint]).0 })
    };
    let courses: Option<Vec<Course>> = plan.courses.iter().map(course).collect();
    let decision = decision.map(<[u8]>::to_vec);
    Frame { starts_at_ms, effective_at_ms, decision, ..frame_of(plan, now, scene) }.plan(courses?).ok()
}

/// Whether what was decided allows these setpoints for a plan's target, as its host will look at them.
fn is_covered(
    change: &Change,
    plan: &Plan,
    control: ShapedControl,
    (setpoints, scene): (&[Setpoint], &Scene<'_>),
) -> bool {
    let unit = scene.standing.units.iter().find(|unit| unit.host == plan.host && unit.target == plan.target);
    let is_its = |cover: &&Cover| {
        unit.is_none_or(|unit| (&cover.application, &cover.tenant) == (&unit.application, &unit.tenant))
    };
    let mut own = change.covers.iter().filter(|cover| may_be_of(cover, plan)).filter(is_its);
    change.covers.is_empty() || own.any(|cover| setpoints.iter().all(|at| allows(cover, control, at.value)))
}

/// Whether a cover may be of a plan's target: under which uid a group runs its host alone knows.
fn may_be_of(cover: &Cover, plan: &Plan) -> bool {
    let is_target = match (&cover.reach, &plan.target) {
        (Reach::Unit(unit), Target::Unit(target)) => unit == target,
        (Reach::Unit(_), Target::Cgroup(_)) => false,
        (Reach::Cgroup(path), Target::Cgroup(target)) => {
            let rest = target.as_str().strip_prefix(path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        (Reach::Cgroup(_), Target::Unit(_)) | (Reach::Uid(_), _) => true,
    };
    is_target && cover.host.is_none_or(|host| host == plan.host)
}

/// What a plan has that takes a running one's place.
fn frame_of(plan: &Plan, now: &HostNow<'_>, scene: &Scene<'_>) -> Frame {
    let of_target = now.plans.iter().filter(|record| record.plan().target == plan.target);
    Frame {
        deployment: scene.deployment,
        host: plan.host,
        epoch: now.host.progress.epoch,
        target: plan.target.clone(),
        last_generation: of_target.map(|record| record.plan().generation).max().unwrap_or_default(),
        starts_at_ms: plan.starts_at_ms,
        effective_at_ms: plan.effective_at_ms,
        ends_at_ms: plan.ends_at_ms,
        on_pressure: plan.on_pressure,
        begin_within_ms: BEGIN_WITHIN_MS,
        hold_ms_max: plan.hold_ms_max,
        overrides: plan.overrides,
        decision: plan.decision.clone(),
        now_ms: scene.now_ms,
    }
}
