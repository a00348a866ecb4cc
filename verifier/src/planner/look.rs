//! What the planner finds to do, change by change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quotary_common::envelope::Name;
use quotary_common::id::{ChangeId, HostId, PlanId};
use quotary_common::plan::{CheckedPlan, ShapedControl, Target};
use quotary_common::units::ResourceKind;
use quotary_decide::change::{InForce, Kept};
use quotary_decide::policy::life::{Input, State};
use quotary_decide::policy::{Place, Shaping, Unit};
use quotary_decide::shape::{Behind, PlanRecord, Planned, Ruling, UnitPlan, Wanted, plan_still, settle};

use super::staging::Staging;
use super::{Demands, Moving, Planner, Sight};
use crate::core::{Basis, PlansMade};

/// Plans that are to end.
type Ending = Vec<(HostId, PlanId)>;

impl Planner {
    /// Looks once.
    pub(super) async fn look(&self, sight: &Sight, moving: &mut Moving) {
        let of = |wanted: fn(&Kept) -> bool| -> BTreeSet<ChangeId> {
            let all = sight.book.changes().iter().filter(|(_, kept)| wanted(kept));
            all.map(|(id, _)| *id).collect()
        };
        moving.steering.keep(&of(|kept| matches!(kept.record().state, State::Approved | State::Shaping)));
        let goes_on = of(|kept| matches!(kept.record().state, State::Approved | State::Shaping | State::InForce));
        moving.staging.keep(&goes_on);
        self.left_out.keep(&goes_on);
        for (id, kept) in sight.book.changes() {
            if !kept.record().moves_limits() || kept.holds().is_some() {
                continue;
            }
            let is_held = sight.book.held_until_ms(id).is_some();
            match kept.record().state {
                State::Approved if is_held => {}
                State::Shaping if is_held => self.hold(*id, kept, sight),
                State::Approved => self.plan(*id, kept, sight, moving).await,
                State::Shaping => self.steer(*id, kept, sight, moving).await,
                State::InForce => self.roll_on(*id, sight, moving),
                _ => {}
            }
        }
        self.settle(sight, moving);
    }

    /// A roll-out that was not over at the effective time goes on in its stages.
    fn roll_on(&self, id: ChangeId, sight: &Sight, moving: &mut Moving) {
        let is_told = sight.book.change(&id).is_ok_and(|kept| kept.record().why.is_some());
        if let Some(why) = moving.staging.look(id, sight).filter(|_| !is_told) {
            self.hand_over(sight, id, Vec::new(), Vec::new(), Some(Input::Deviated(why)));
        }
    }

    /// The plans of what was approved.
    async fn plan(&self, id: ChangeId, kept: &Kept, sight: &Sight, moving: &mut Moving) {
        // First without forecasts: which units move, of which resources.
        let rough = sight.preview(kept, &Demands::default());
        let demands = self.demands(&rough, sight, kept.record().times.effective_at_ms).await;
        let mut planned = sight.preview(kept, &demands);
        planned.plans.retain(|one| wins(&one.unit, kept, sight));
        let told = match planned.earliest_ms {
            Some(earliest_ms) => Input::CannotBeDone(format!(
                "the time to its effective time does not suffice for its slew: it can take effect at {} at the earliest",
                quotary_common::instant::rfc3339(earliest_ms)
            )),
            None => Input::Planned,
        };
        self.left_out.tell(id, &planned.without);
        stage(id, kept, sight, &mut moving.staging, &mut planned);
        moving.steering.note(id, &planned);
        let plans = if told == Input::Planned { plans_in(&planned) } else { Vec::new() };
        self.hand_over(sight, id, plans, Vec::new(), Some(told));
    }

    /// While limits move: plans made anew where they are off, and plans for units that came meanwhile.
    async fn steer(&self, id: ChangeId, kept: &Kept, sight: &Sight, moving: &mut Moving) {
        if !moving.steering.is_due(id, sight.now_ms) {
            return;
        }
        if let Some(why) = moving.staging.look(id, sight) {
            self.hand_over(sight, id, Vec::new(), Vec::new(), Some(Input::CannotBeDone(why)));
            return;
        }
        let rough = sight.preview(kept, &Demands::default());
        let demands = self.demands(&rough, sight, kept.record().times.effective_at_ms).await;
        let mut came = sight.preview(kept, &demands);
        moving.steering.take_up(kept, &came, sight);
        let turns = moving.steering.look(kept, sight, &demands);
        let given: BTreeMap<(HostId, &Target), &PlanRecord> =
            sight.running(kept).map(|(_, record)| ((record.plan().host, &record.plan().target), record)).collect();
        let is_given = |host: HostId, target: &Target| given.contains_key(&(host, target));
        // Of what is on its way already, the time that is left says nothing.
        let without = came.without.iter().filter(|one| !(one.is_too_soon && is_given(one.host, &one.target)));
        self.left_out.tell(id, without);
        stage(id, kept, sight, &mut moving.staging, &mut came);
        came.plans.retain(|one| {
            !is_given(one.unit.host, &one.unit.target) && wins(&one.unit, kept, sight) && is_whole(one, id, sight)
        });
        moving.steering.note(id, &came);
        let mut plans = turns.anew;
        plans.extend(plans_in(&came));
        if !plans.is_empty() || turns.off.is_some() {
            self.hand_over(sight, id, plans, Vec::new(), turns.off);
        }
    }

    /// What a freeze holds stays where it is: each of its plans is replaced by one that moves nothing.
    fn hold(&self, id: ChangeId, kept: &Kept, sight: &Sight) {
        let given = sight.hosts.iter().flat_map(|snapshot| &snapshot.plans);
        let moving = given.filter(|record| record.over().is_none() && record.change() == Some(id));
        // Those that stand still may have been made before others came to decide.
        let is_still = |record: &PlanRecord| {
            sight.book.is_of_freeze(&id, record.made_at_ms()) && record.plan().decision.as_deref() == kept.decision()
        };
        let of = (kept.text().change(), kept.decision());
        let still =
            |record: &Arc<PlanRecord>| sight.with_scene(&Demands::default(), |scene| plan_still(record, of, scene));
        let plans: Vec<CheckedPlan> = moving.filter(|record| !is_still(record)).filter_map(still).collect();
        if !plans.is_empty() {
            self.hand_over(sight, id, plans, Vec::new(), None);
        }
    }

    async fn demands(&self, planned: &Planned, sight: &Sight, until_ms: u64) -> Demands {
        let units: Vec<(&Unit, ResourceKind)> =
            planned.plans.iter().flat_map(|one| ResourceKind::ALL.map(|kind| (&one.unit, kind))).collect();
        Demands::gather(&units, sight, (&self.ground, &self.usual, self.step_ms), until_ms).await
    }

    /// What holds has its plans: each unit the plan of the policy that is in force for it, and nothing stands behind a plan of anything else.
    fn settle(&self, sight: &Sight, moving: &mut Moving) {
        let in_force: Vec<OfPolicy<'_>> =
            sight.book.policies().iter().filter_map(|(name, held)| OfPolicy::new(name, held, sight)).collect();
        let rulings: BTreeMap<Name, Ruling<'_>> = in_force.iter().filter_map(OfPolicy::ruling).collect();
        moving.absent.look(sight);
        let is_gone = |record: &PlanRecord| moving.absent.is_gone(record);
        let settled = sight
            .with_scene(&Demands::default(), |scene| settle(&rulings, |record| behind(record, sight), is_gone, scene));
        let mut ending: BTreeMap<ChangeId, Ending> = BTreeMap::new();
        for (of, host, plan) in settled.ending {
            ending.entry(of).or_default().push((host, plan));
        }
        let mut planned = settled.planned;
        for OfPolicy { change: id, kept, .. } in &in_force {
            let mut of_change = planned.remove(id).unwrap_or_default();
            self.left_out.tell(*id, &of_change.without);
            stage(*id, kept, sight, &mut moving.staging, &mut of_change);
            let (plans, ending) = (plans_in(&of_change), ending.remove(id).unwrap_or_default());
            if !(plans.is_empty() && ending.is_empty()) {
                self.hand_over(sight, *id, plans, ending, None);
            }
        }
        for (id, ending) in ending {
            self.hand_over(sight, id, Vec::new(), ending, None);
        }
    }

    fn hand_over(&self, sight: &Sight, change: ChangeId, plans: Vec<CheckedPlan>, ending: Ending, told: Option<Input>) {
        let why = told.is_none().then(|| format!("{} made, {} ended", plans.len(), ending.len()));
        let basis = Basis::of(&sight.book, &change);
        self.queue.plans_made(PlansMade { change, basis, plans, ending, told, why });
    }
}

/// A policy in force, with the change that put it there.
struct OfPolicy<'a> {
    name: &'a Name,
    change: ChangeId,
    kept: &'a Kept,
    shaping: Shaping,
}

impl<'a> OfPolicy<'a> {
    fn new(name: &'a Name, held: &InForce, sight: &'a Sight) -> Option<Self> {
        let kept = sight.book.changes().get(&held.change)?;
        Some(Self { name, change: held.change, kept, shaping: kept.shaping(&sight.book) })
    }

    fn ruling(&self) -> Option<(Name, Ruling<'_>)> {
        let (edit, decision) = (self.kept.edit()?, self.kept.decision()?);
        let change = self.kept.text().change();
        let wanted = Wanted { change, edit, shaping: &self.shaping, decision: Some(decision) };
        Some((self.name.clone(), Ruling { change: self.change, wanted }))
    }
}

/// Whether a moving change is the one whose plan a unit has: with all that is under way put in force, its policy holds there, or none that moves.
fn wins(unit: &Unit, kept: &Kept, sight: &Sight) -> bool {
    let (Some(edit), Some(host)) = (kept.edit(), sight.standing.hosts.get(&unit.host)) else { return true };
    let place = Place { application: &unit.application, tenant: &unit.tenant, host };
    let Ok(Some(held)) = sight.to_come.holding(&place) else { return true };
    let is_moving = |other: &Kept| {
        matches!(other.record().state, State::Approved | State::Shaping)
            && other.edit().is_some_and(|edit| *edit.name() == held.policy.name)
    };
    held.policy.name == *edit.name() || !sight.book.changes().values().any(|other| is_moving(other))
}

/// Whether a plan has all controls of the one that it would take the place of: what it left out would be let go at once.
fn is_whole(one: &UnitPlan, id: ChangeId, sight: &Sight) -> bool {
    let has = |control: ShapedControl| one.plan.plan().courses.iter().any(|course| course.control == control);
    let running = sight.given(id).find(|(_, record)| {
        let plan = record.plan();
        plan.host == one.unit.host && plan.target == one.unit.target
    });
    running.is_none_or(|(_, record)| record.plan().courses.iter().all(|course| has(course.control)))
}

/// What stands behind a given plan.
fn behind(record: &PlanRecord, sight: &Sight) -> Behind {
    let Some(id) = record.change() else { return Behind::LeaveAlone };
    let Some(kept) = sight.book.changes().get(&id) else { return Behind::Change(id) };
    match kept.record().state {
        State::Rejected | State::Expired | State::Withdrawn => Behind::TakenBack,
        State::InForce | State::Revoked if sight.book.is_of_freeze(&id, record.made_at_ms()) => Behind::Thawed,
        State::InForce | State::Revoked => Behind::Change(id),
        State::Proposed | State::Approving | State::Approved | State::Shaping => Behind::LeaveAlone,
    }
}

/// Leaves the plans of the stage that the change's roll-out is in.
fn stage(id: ChangeId, kept: &Kept, sight: &Sight, staging: &mut Staging, planned: &mut Planned) {
    let record = kept.record();
    let from_ms = record.approved_at_ms.unwrap_or(sight.now_ms);
    let window_ms = record.times.effective_at_ms.saturating_sub(from_ms);
    staging.of_stage(id, &kept.shaping(&sight.book), window_ms, planned, sight);
}

fn plans_in(planned: &Planned) -> Vec<CheckedPlan> {
    planned.plans.iter().map(|one| one.plan.clone()).collect()
}
