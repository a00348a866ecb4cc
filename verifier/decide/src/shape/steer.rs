//! Steering: what is remembered of the running plan of one unit, and what follows from what its host tells.

use quotary_common::id::PlanId;
use quotary_common::instant::rfc3339;
use quotary_common::plan::{Course, Plan};
use quotary_common::quorum::coverage::resource_of;
use quotary_common::units::ResourceKind;

use super::of_change::Way;
use super::phase::{Demand, Refused, Running, Seen, Tolerance, Watch};
use super::record::PlanRecord;
use crate::policy::Unit;

/// What is remembered of the running plan of one unit.
#[derive(Debug, Clone)]
pub struct Steered {
    plan: PlanId,
    tolerance: Tolerance,
    ways: Vec<Way>,
    watches: Vec<Watch>,
    /// The evidence that was looked at last, when it was committed, Unix ms.
    seen_ms: u64,
}

/// What follows from one evidence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Steps {
    /// The rest of the plan's ways, some of them made anew.
    pub anew: Option<Vec<Way>>,
    /// Somebody must look, and why.
    pub off: Vec<String>,
}

impl Steered {
    /// A plan that was made along these ways; or, after a restart, what these would be if it were made now: then demand is held against the newest
    /// forecast, and what is made anew frees as much as a line.
    pub fn new(plan: &Plan, ways: Vec<Way>) -> Self {
        let tolerance = Tolerance::of(plan.effective_at_ms.saturating_sub(plan.starts_at_ms));
        let watches = ways.iter().map(|_| Watch::default()).collect();
        Self { plan: plan.id, tolerance, ways, watches, seen_ms: 0 }
    }

    /// Whether it is this plan that runs.
    pub fn is_of(&self, plan: &Plan) -> bool {
        self.plan == plan.id
    }

    /// Goes on with a plan that took its place, along other ways: what was counted and when it was made anew last is not forgotten.
    pub fn go_on(&mut self, plan: PlanId, ways: Vec<Way>) {
        (self.plan, self.ways) = (plan, ways);
    }

    /// Takes in what the evidence that was committed at `told_at_ms` (Unix ms) says of the unit and its plan; each evidence counts once. What is made
    /// anew begins at `now_ms` (Unix ms).
    pub fn look(
        &mut self,
        (unit, record): (&Unit, &PlanRecord),
        (told_at_ms, now_ms): (u64, u64),
        demand: impl Fn(&Unit, ResourceKind) -> Demand,
    ) -> Steps {
        let mut steps = Steps::default();
        if told_at_ms <= self.seen_ms {
            return steps;
        }
        self.seen_ms = told_at_ms;
        let mut ways = self.ways.clone();
        let mut is_anew = false;
        for (way, watch) in ways.iter_mut().zip(&mut self.watches) {
            let Some(running) = running(record, way, told_at_ms) else { continue };
            let (kind, actual) = (resource_of(way.control), record.actual(way.control));
            let used = kind.and_then(|kind| unit.usage.get(kind)).map(amount);
            let seen = Seen { at_ms: told_at_ms, demand: used, actual };
            let finding = watch.step(&running, &way.demand, &seen, &self.tolerance);
            let of_unit = || format!("{} on {}", unit.target, unit.host);
            if let Some(review) = finding.review {
                let (is, planned) = (review.actual, review.setpoint);
                steps.off.push(format!("{}: {} is {is}, and its plan has {planned}", of_unit(), way.control));
            }
            if finding.replan.is_none() {
                continue;
            }
            let fresh = kind.map(|kind| demand(unit, kind)).unwrap_or_default();
            match Watch::anew(&way.phased, now_ms, actual, &fresh) {
                Ok(phased) => {
                    (way.phased, way.demand) = (phased, fresh);
                    is_anew = true;
                }
                Err(Refused::TooSoon { earliest_ms }) => steps.off.push(format!(
                    "{}: {} cannot reach its target in time any more, at {} at the earliest",
                    of_unit(),
                    way.control,
                    rfc3339(earliest_ms)
                )),
                Err(why) => steps.off.push(format!("{}: {} cannot be planned anew: {why}", of_unit(), way.control)),
            }
        }
        steps.anew = is_anew.then_some(ways);
        steps
    }
}

/// Where the course of a control is in a plan that runs.
fn running(record: &PlanRecord, way: &Way, at_ms: u64) -> Option<Running> {
    let plan = record.plan();
    let transition = way.phased.transition();
    let is_it = |course: &&Course| course.control == way.control;
    let setpoints = &plan.courses.iter().find(is_it)?.setpoints;
    // Of a plan that is remembered since it ran only, the way behind it is not known: what it has to come was some of it.
    let in_plan = setpoints.first()?.value.abs_diff(setpoints.last()?.value);
    Some(Running {
        starts_at_ms: plan.starts_at_ms,
        effective_at_ms: plan.effective_at_ms,
        setpoint: record.checked().setpoint(way.control, transition.from, at_ms)?,
        distance: transition.distance().max(in_plan),
    })
}

#[expect(clippy::cast_precision_loss, reason = "demand is below 2^53 or its last digits do not matter")]
fn amount(value: u64) -> f64 {
    value as f64
}
