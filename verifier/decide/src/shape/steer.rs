//! Steering: what is remembered of the running plan of one unit, and what follows from what its host tells.
//!
//! What its host holds or gave up under pressure, rolled back, refused or leaves to another writer is not made anew: a new plan would count its patience
//! from the beginning.

use std::collections::BTreeMap;

use quotary_common::envelope::EventKind;
use quotary_common::id::PlanId;
use quotary_common::instant::rfc3339;
use quotary_common::plan::{Course, Plan, ShapedControl};
use quotary_common::quorum::coverage::resource_of;
use quotary_common::units::ResourceKind;

use super::of_change::{Way, is_limit};
use super::phase::{Demand, Refused, Running, Seen, Tolerance, Watch};
use super::record::PlanRecord;
use crate::policy::Unit;

/// Of a setpoint such a part an actual may always be off: three times the agent's dead band.
const SLACK_OF_SETPOINT: u64 = 100;

/// What is remembered of the running plan of one unit.
#[derive(Debug, Clone)]
pub struct Steered {
    plan: PlanId,
    tolerance: Tolerance,
    ways: Vec<Way>,
    watches: BTreeMap<ShapedControl, Watch>,
    /// When it was made anew last, or could not be, Unix ms.
    anew_at_ms: Option<u64>,
    /// What is to take its place, and does not yet.
    next: Option<(PlanId, Vec<Way>)>,
    /// The evidence that was looked at last, when it was committed, Unix ms.
    seen_ms: u64,
}

/// What follows from one evidence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Steps {
    /// The rest of the plan's ways, some of them made anew.
    pub anew: Option<Vec<Way>>,
    /// What cannot be there in time any more.
    pub late: Vec<String>,
    /// What is off beyond tolerance.
    pub off: Vec<String>,
}

impl Steered {
    /// A plan that was made along these ways; or, after a restart, what these would be if it were made now: then demand is held against the newest
    /// forecast, and what is made anew frees as much as a line. A control without a way is looked at, and not made anew.
    pub fn new(plan: &Plan, mut ways: Vec<Way>) -> Self {
        let tolerance = Tolerance::of(plan.effective_at_ms.saturating_sub(plan.starts_at_ms));
        ways.retain(|way| way.phased.transition().effective_at_ms == plan.effective_at_ms);
        Self { plan: plan.id, tolerance, ways, watches: BTreeMap::new(), anew_at_ms: None, next: None, seen_ms: 0 }
    }

    /// Whether it is this plan that runs: the one that was remembered, or the one that was to take its place.
    pub fn runs_as(&mut self, plan: &Plan) -> bool {
        // What was to come and did not, comes when it is found again.
        if let Some((next, ways)) = self.next.take()
            && next == plan.id
        {
            (self.plan, self.ways, self.anew_at_ms) = (next, ways, Some(plan.starts_at_ms));
            self.watches.values_mut().for_each(Watch::begin_anew);
        }
        self.plan == plan.id
    }

    /// Another plan is to take its place, along other ways.
    pub fn await_plan(&mut self, plan: PlanId, ways: Vec<Way>) {
        self.next = Some((plan, ways));
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
        let dwell_ms = self.tolerance.dwell_ms;
        let rested = self.anew_at_ms.is_none_or(|at_ms| told_at_ms.saturating_sub(at_ms) >= dwell_ms);
        let may_be_anew = rested && !is_held(record);
        let mut ways = self.ways.clone();
        let mut is_anew = false;
        for course in record.plan().courses.iter() {
            let control = course.control;
            let way = ways.iter_mut().find(|way| way.control == control);
            let Some(running) = running(record, course, way.as_deref(), told_at_ms) else { continue };
            // Nobody runs into what is kept for him, or shared by weight.
            let kind = resource_of(control).filter(|_| is_limit(control));
            let used = kind.and_then(|kind| unit.usage.get(kind)).map(amount);
            let actual = record.actual(control);
            let planned_for = way.as_deref().map(|way| way.demand.clone()).unwrap_or_default();
            let seen = Seen { at_ms: told_at_ms, demand: used, actual };
            let watch = self.watches.entry(control).or_default();
            let finding = watch.step(&running, &planned_for, &seen, &self.tolerance);
            let of_unit = || format!("{} on {}", unit.target, unit.host);
            if let Some(review) = finding.review {
                let (is, planned) = (review.actual, review.setpoint);
                steps.off.push(format!("{}: {control} is {is}, and its plan has {planned}", of_unit()));
            }
            let (Some(_), Some(way), true) = (finding.replan, way, may_be_anew) else { continue };
            let fresh = kind.map(|kind| demand(unit, kind)).unwrap_or_default();
            match Watch::anew(&way.phased, now_ms, actual, &fresh) {
                Ok(phased) => {
                    (way.phased, way.demand, is_anew) = (phased, fresh, true);
                    continue;
                }
                Err(Refused::TooSoon { earliest_ms }) => {
                    let (unit, earliest) = (of_unit(), rfc3339(earliest_ms));
                    let why = format!(
                        "{unit}: {control} cannot reach its target in time any more, at {earliest} at the earliest"
                    );
                    steps.late.push(why);
                }
                Err(why) => steps.late.push(format!("{}: {control} cannot be planned anew: {why}", of_unit())),
            }
            // It is not tried, nor told, again at once.
            watch.begin_anew();
            self.anew_at_ms = Some(told_at_ms);
        }
        steps.anew = is_anew.then_some(ways);
        steps
    }
}

/// Whether its host told that the plan waits, or goes nowhere.
fn is_held(record: &PlanRecord) -> bool {
    record.told().is_some_and(|told| told.is_off() || told.kind == EventKind::PlanHeld)
}

/// Where the course of a control is in a plan that runs.
fn running(record: &PlanRecord, course: &Course, way: Option<&Way>, at_ms: u64) -> Option<Running> {
    let (plan, control) = (record.plan(), course.control);
    let (first, last) = (course.setpoints.first()?.value, course.setpoints.last()?.value);
    let transition = way.map(|way| way.phased.transition());
    let from = transition.map_or(first, |transition| transition.from);
    let setpoint = record.checked().setpoint(control, from, at_ms)?;
    Some(Running {
        starts_at_ms: plan.starts_at_ms,
        effective_at_ms: plan.effective_at_ms,
        setpoint,
        // Of a plan that is remembered since it ran only, the way behind it is not known: what it has to come was some of it.
        distance: transition.map_or(0, |transition| transition.distance()).max(first.abs_diff(last)),
        slack: control.slack(setpoint).max(setpoint / SLACK_OF_SETPOINT),
    })
}

#[expect(clippy::cast_precision_loss, reason = "demand is below 2^53 or its last digits do not matter")]
fn amount(value: u64) -> f64 {
    value as f64
}
