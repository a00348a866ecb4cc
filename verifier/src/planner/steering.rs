//! While plans run: they are made anew when demand leaves the band that they were made for or the actual is off, units that came meanwhile get
//! theirs, and what is beyond tolerance is told.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::id::{ChangeId, HostId, PlanId};
use quotary_common::instant::rfc3339;
use quotary_common::plan::{CheckedPlan, Target};
use quotary_common::quorum::coverage::resource_of;
use quotary_decide::policy::Unit;
use quotary_decide::policy::life::Input;
use quotary_decide::shape::phase::{Refused, Seen, Tolerance, Watch};
use quotary_decide::shape::{PlanRecord, Planned, UnitPlan, Way, plan_again};

use super::{Demands, Sight};

/// What is remembered of the running plan of one unit. After a restart nothing is: plans then run as they were made.
#[derive(Debug)]
struct Steered {
    plan: PlanId,
    ways: Vec<Way>,
    watches: Vec<Watch>,
    /// The evidence that was looked at last, when it was committed, Unix ms.
    seen_ms: u64,
}

/// The running plans that this planner has made.
#[derive(Debug, Default)]
pub(super) struct Steering {
    plans: BTreeMap<(ChangeId, HostId, Target), Steered>,
    /// When each change was looked at last, Unix ms.
    looked: BTreeMap<ChangeId, u64>,
}

/// A moving change is looked at so often, ms: each look forecasts all that it moves.
const EVERY_MS: u64 = 5_000;

/// What follows from a look at the running plans of one change.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Plans that take the place of those that run.
    pub(super) anew: Vec<CheckedPlan>,
    /// What is beyond tolerance.
    pub(super) off: Option<Input>,
}

impl Steering {
    /// Remembers what was planned.
    pub(super) fn note(&mut self, change: ChangeId, planned: &Planned) {
        for one in &planned.plans {
            self.remember(change, one.plan.plan().id, one);
        }
    }

    fn remember(&mut self, change: ChangeId, plan: PlanId, one: &UnitPlan) {
        let watches = one.ways.iter().map(|_| Watch::default()).collect();
        let steered = Steered { plan, ways: one.ways.clone(), watches, seen_ms: 0 };
        self.plans.insert((change, one.unit.host, one.unit.target.clone()), steered);
    }

    /// Whether it is time to look at a change; then it has been looked at.
    pub(super) fn is_due(&mut self, change: ChangeId, now_ms: u64) -> bool {
        let last_ms = self.looked.get(&change).copied();
        let is_due = last_ms.is_none_or(|last_ms| now_ms.saturating_sub(last_ms) >= EVERY_MS);
        if is_due {
            self.looked.insert(change, now_ms);
        }
        is_due
    }

    /// Lets go of changes that move no more.
    pub(super) fn keep(&mut self, moving: &BTreeSet<ChangeId>) {
        self.plans.retain(|(change, _, _), _| moving.contains(change));
        self.looked.retain(|change, _| moving.contains(change));
    }

    /// Looks at the running plans of a change once.
    pub(super) fn look(&mut self, id: ChangeId, sight: &Sight, demands: &Demands) -> Steps {
        let mut steps = Steps::default();
        let given = sight.hosts.iter().flat_map(|snapshot| snapshot.plans.iter().map(move |plan| (snapshot, plan)));
        for (snapshot, record) in given.filter(|(_, record)| record.over().is_none() && record.change() == Some(id)) {
            let plan = record.plan();
            let key = (id, plan.host, plan.target.clone());
            let Some(steered) = self.plans.get_mut(&key).filter(|steered| steered.plan == plan.id) else { continue };
            let committed_at_ms = snapshot.host.progress.committed_at_ms;
            let unit = sight.standing.units.iter().find(|unit| unit.host == plan.host && unit.target == plan.target);
            let Some(unit) = unit.filter(|_| committed_at_ms > steered.seen_ms) else { continue };
            steered.seen_ms = committed_at_ms;
            let Some(ways) = steered.step((unit, record), sight.now_ms, demands, &mut steps) else { continue };
            let again = sight.with_scene(demands, |scene| plan_again(record, &ways, scene));
            if let Some(plan) = again {
                let one = UnitPlan { unit: unit.clone(), plan: plan.clone(), ways };
                self.remember(id, plan.plan().id, &one);
                steps.anew.push(plan);
            }
        }
        steps
    }
}

impl Steered {
    /// One step of each control; the ways from here on, if some of them is made anew.
    fn step(
        &mut self,
        (unit, record): (&Unit, &PlanRecord),
        now_ms: u64,
        demands: &Demands,
        steps: &mut Steps,
    ) -> Option<Vec<Way>> {
        let mut ways = self.ways.clone();
        let mut is_anew = false;
        for (way, watch) in ways.iter_mut().zip(&mut self.watches) {
            let kind = resource_of(way.control);
            let actual = record.actual(way.control);
            let demand = kind.and_then(|kind| unit.usage.get(kind)).map(amount);
            let seen = Seen { at_ms: now_ms, demand, actual, hosts_changed: false };
            let finding = watch.step(&way.phased, &way.demand, &seen, &Tolerance::default());
            if let Some(review) = finding.review {
                let (target, host) = (&unit.target, unit.host);
                let why = format!(
                    "{target} on {host}: {} is {}, and its plan has {}",
                    way.control, review.actual, review.setpoint
                );
                steps.off = Some(Input::Deviated(why));
            }
            let Some(why) = finding.replan else { continue };
            let fresh = kind.map(|kind| demands.of(unit, kind)).unwrap_or_default();
            match Watch::anew(&way.phased, now_ms, actual, &fresh) {
                Ok(phased) => {
                    tracing::info!(target = %unit.target, host = %unit.host, control = %way.control, ?why, "a plan is made anew");
                    (way.phased, way.demand) = (phased, fresh);
                    is_anew = true;
                }
                Err(Refused::TooSoon { earliest_ms }) => {
                    let earliest = rfc3339(earliest_ms);
                    let why = format!(
                        "{} on {}: {} cannot reach its target in time any more, at {earliest} at the earliest",
                        unit.target, unit.host, way.control
                    );
                    steps.off = Some(Input::Deviated(why));
                }
                Err(why) => tracing::warn!(target = %unit.target, host = %unit.host, %why, "a plan is not made anew"),
            }
        }
        is_anew.then_some(ways)
    }
}

#[expect(clippy::cast_precision_loss, reason = "demand is below 2^53 or its last digits do not matter")]
fn amount(value: u64) -> f64 {
    value as f64
}
