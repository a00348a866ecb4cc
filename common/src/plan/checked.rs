//! A plan that holds together, and the line that its controls follow.

use super::{Course, Plan, Setpoint, ShapedControl, Target};

/// Longest delay window of a plan, ms: 31 days.
const WINDOW_MS_MAX: u64 = 31 * 24 * 3_600 * 1_000;

/// A plan whose courses hold together: made only by [`check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedPlan(Plan);

/// Why a plan does not hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// It moves nothing.
    #[error("it moves no control")]
    Empty,
    /// Its target has no name, or one that no unit or group has.
    #[error("its target is not the name of a unit or the path of a group")]
    Target,
    /// It starts after its effective time, or ends before, or takes longer than 31 days.
    #[error("its times are not in order: start, effective time, end, and at most 31 days from first to last setpoint")]
    Times,
    /// A control stands in it twice.
    #[error("{0} stands in it twice")]
    Twice(ShapedControl),
    /// A course has no setpoints, or they are not in ascending order between start and effective time.
    #[error("the setpoints of {0} are not in ascending order from the start to the effective time")]
    Order(ShapedControl),
    /// A course does not end at the effective time.
    #[error("the last setpoint of {0} is not at the effective time")]
    Reach(ShapedControl),
    /// A value out of its control's range.
    #[error("{0} cannot be {1}: it must be {min} to {max} {unit}", min = .0.range().0, max = .0.range().1, unit = .0.unit())]
    Range(ShapedControl, u64),
}

/// Checks a plan: the second pass that no plan escapes, whoever made it.
///
/// # Errors
/// The first [`PlanFault`].
pub fn check(plan: Plan) -> Result<CheckedPlan, PlanFault> {
    let is_named = match &plan.target {
        Target::Unit(unit) => is_unit_name(unit.as_str()),
        Target::Cgroup(path) => is_group_path(path.as_str()),
    };
    if !is_named {
        return Err(PlanFault::Target);
    }
    let window_ms = plan.effective_at_ms.checked_sub(plan.starts_at_ms);
    if window_ms.is_none_or(|window_ms| window_ms > WINDOW_MS_MAX)
        || plan.ends_at_ms.is_some_and(|ends_at_ms| ends_at_ms < plan.effective_at_ms)
    {
        return Err(PlanFault::Times);
    }
    if plan.courses.is_empty() {
        return Err(PlanFault::Empty);
    }
    for (index, course) in plan.courses.iter().enumerate() {
        if plan.courses.iter().skip(index + 1).any(|other| other.control == course.control) {
            return Err(PlanFault::Twice(course.control));
        }
        check_course(course, &plan)?;
    }
    Ok(CheckedPlan(plan))
}

fn check_course(course: &Course, plan: &Plan) -> Result<(), PlanFault> {
    let (least, most) = course.control.range();
    let setpoints = &course.setpoints;
    if let Some(off) = setpoints.iter().find(|setpoint| !(least..=most).contains(&setpoint.value)) {
        return Err(PlanFault::Range(course.control, off.value));
    }
    let ascends = setpoints.windows(2).all(|pair| matches!(pair, [a, b] if a.at_ms < b.at_ms));
    let begins = setpoints.first().is_some_and(|first| first.at_ms >= plan.starts_at_ms);
    if !ascends || !begins {
        return Err(PlanFault::Order(course.control));
    }
    let ends = setpoints.last().is_some_and(|last| last.at_ms == plan.effective_at_ms);
    if ends { Ok(()) } else { Err(PlanFault::Reach(course.control)) }
}

/// Whether a name is one that systemd gives to units that have a cgroup (systemd.unit(5)).
fn is_unit_name(name: &str) -> bool {
    let kinds = [".service", ".slice", ".scope"];
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    kinds.iter().any(|kind| name.strip_suffix(kind).is_some_and(|stem| !stem.is_empty() && !stem.ends_with('@')))
        && name.chars().all(plain)
}

/// Whether a path is absolute and has no part that leads elsewhere.
fn is_group_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'))
    })
}

impl CheckedPlan {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.0
    }

    /// The controls that it moves, in its order.
    pub fn controls(&self) -> impl Iterator<Item = ShapedControl> + '_ {
        self.0.courses.iter().map(|course| course.control)
    }

    /// Where a control is to be from the effective time on; `None` for one that it does not move.
    pub fn target_value(&self, control: ShapedControl) -> Option<u64> {
        self.course(control)?.setpoints.last().map(|setpoint| setpoint.value)
    }

    /// Whether it moves at `now_ms` (Unix ms): it has begun and is not over.
    pub fn is_on(&self, now_ms: u64) -> bool {
        now_ms >= self.0.starts_at_ms && self.0.ends_at_ms.is_none_or(|ends_at_ms| now_ms < ends_at_ms)
    }

    /// What a control should be at `now_ms` (Unix ms), when it was `found` at the plan's start: a straight line from
    /// there to the first setpoint, from each setpoint to the next, and the target from the effective time on.
    ///
    /// What is on or off changes at its setpoints. `None` for a control that the plan does not move.
    pub fn setpoint(&self, control: ShapedControl, found: u64, now_ms: u64) -> Option<u64> {
        self.setpoint_from(control, Setpoint { at_ms: self.0.starts_at_ms, value: found }, now_ms)
    }

    /// The same for a control that was taken up later than the plan began: it runs in a straight line from what it
    /// was then to the next setpoint, so that a plan that came late still has no cliff in it.
    pub fn setpoint_from(&self, control: ShapedControl, taken_up: Setpoint, now_ms: u64) -> Option<u64> {
        let setpoints = &self.course(control)?.setpoints;
        let passed = setpoints.partition_point(|setpoint| setpoint.at_ms <= now_ms);
        let last = passed.checked_sub(1).and_then(|index| setpoints.get(index));
        let Some(next) = setpoints.get(passed) else {
            return last.map(|last| last.value);
        };
        if control.is_gradual() {
            let from = last.filter(|last| last.at_ms > taken_up.at_ms).unwrap_or(&taken_up);
            Some(between(*from, *next, now_ms))
        } else {
            Some(last.unwrap_or(&taken_up).value)
        }
    }

    /// How far a control goes at most from what was `found`, in its unit; `None` for one that the plan does not move.
    pub fn span(&self, control: ShapedControl, found: u64) -> Option<u64> {
        self.course(control)?.setpoints.iter().map(|setpoint| setpoint.value.abs_diff(found)).max()
    }

    fn course(&self, control: ShapedControl) -> Option<&Course> {
        self.0.courses.iter().find(|course| course.control == control)
    }
}

/// The value on the straight line between two setpoints; `now_ms` is before `to`.
fn between(from: Setpoint, to: Setpoint, now_ms: u64) -> u64 {
    let span = u128::from(to.at_ms.saturating_sub(from.at_ms));
    let gone = u128::from(now_ms.saturating_sub(from.at_ms));
    if span == 0 {
        return to.value;
    }
    let moved = u128::from(from.value.abs_diff(to.value)) * gone / span;
    // `gone` is less than `span`, so what is moved is at most the difference of two u64.
    let moved = u64::try_from(moved).unwrap_or(u64::MAX);
    if to.value < from.value { from.value.saturating_sub(moved) } else { from.value.saturating_add(moved) }
}
