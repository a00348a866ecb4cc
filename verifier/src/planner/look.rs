//! What the planner finds to do, change by change.

use std::sync::Arc;

use quotary_common::id::{ChangeId, HostId, PlanId};
use quotary_common::plan::{CheckedPlan, Target};
use quotary_common::units::ResourceKind;
use quotary_decide::change::Kept;
use quotary_decide::policy::life::{Input, State};
use quotary_decide::policy::{Edit, Unit};
use quotary_decide::shape::{Planned, Wanted, plan_still, plans_back, plans_of_late};

use super::staging::Staging;
use super::{Demands, Moving, Planner, Sight};
use crate::core::PlansMade;

/// Plans that are to end.
type Ending = Vec<(HostId, PlanId)>;

impl Planner {
    /// Looks once.
    pub(super) async fn look(&self, sight: &Sight, moving: &mut Moving) {
        let is_moving = |kept: &&Arc<Kept>| matches!(kept.record().state, State::Approved | State::Shaping);
        let ids = sight.book.changes().iter().filter(|(_, kept)| is_moving(kept)).map(|(id, _)| *id).collect();
        moving.steering.keep(&ids);
        moving.staging.keep(&ids);
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
                State::InForce => self.extend(*id, kept, sight).await,
                state if state.is_over() => self.take_back(*id, kept, sight),
                _ => {}
            }
        }
    }

    /// The plans of what was approved.
    async fn plan(&self, id: ChangeId, kept: &Kept, sight: &Sight, moving: &mut Moving) {
        // First without forecasts: which units move, of which resources.
        let rough = sight.preview(kept, &Demands::default());
        let demands = self.demands(&rough, sight, kept.record().times.effective_at_ms).await;
        let mut planned = sight.preview(kept, &demands);
        let told = match planned.earliest_ms {
            Some(earliest_ms) => Input::CannotBeDone(format!(
                "the time to its effective time does not suffice for its slew: it can take effect at {} at the earliest",
                quotary_common::instant::rfc3339(earliest_ms)
            )),
            None => Input::Planned,
        };
        for why in &planned.without {
            tracing::warn!(change = %id, why, "no plan for one of its units");
        }
        stage(id, kept, sight, &mut moving.staging, &mut planned);
        moving.steering.note(id, &planned);
        let plans = if told == Input::Planned { plans_in(&planned) } else { Vec::new() };
        self.hand_over(sight, (id, kept), plans, Vec::new(), Some(told));
    }

    /// While limits move: plans made anew where they are off, and plans for units that came meanwhile.
    async fn steer(&self, id: ChangeId, kept: &Kept, sight: &Sight, moving: &mut Moving) {
        if !moving.steering.is_due(id, sight.now_ms) {
            return;
        }
        if let Some(why) = moving.staging.look(id, sight) {
            self.hand_over(sight, (id, kept), Vec::new(), Vec::new(), Some(Input::CannotBeDone(why)));
            return;
        }
        let rough = sight.preview(kept, &Demands::default());
        let demands = self.demands(&rough, sight, kept.record().times.effective_at_ms).await;
        let steps = moving.steering.look(id, sight, &demands);
        let given = |unit: &Unit| {
            let host = sight.hosts.iter().find(|snapshot| snapshot.host.record.host == unit.host);
            let mut plans = host.into_iter().flat_map(|snapshot| &snapshot.plans);
            plans.any(|record| {
                record.over().is_none()
                    && record.change() == Some(id)
                    && record.plan().target == unit.target
                    && !sight.book.is_of_freeze(&id, record.made_at_ms())
            })
        };
        let mut came = sight.preview(kept, &demands);
        stage(id, kept, sight, &mut moving.staging, &mut came);
        came.plans.retain(|one| !given(&one.unit));
        moving.steering.note(id, &came);
        let mut plans = steps.anew;
        plans.extend(plans_in(&came));
        if !plans.is_empty() || steps.off.is_some() {
            self.hand_over(sight, (id, kept), plans, Vec::new(), steps.off);
        }
    }

    /// What a freeze holds stays where it is: each of its plans is replaced by one that moves nothing.
    fn hold(&self, id: ChangeId, kept: &Kept, sight: &Sight) {
        let given = sight.hosts.iter().flat_map(|snapshot| &snapshot.plans);
        let moving = given.filter(|record| record.over().is_none() && record.change() == Some(id));
        let moving = moving.filter(|record| !sight.book.is_of_freeze(&id, record.made_at_ms()));
        let plans: Vec<CheckedPlan> = moving
            .filter_map(|record| sight.with_scene(&Demands::default(), |scene| plan_still(record, scene)))
            .collect();
        if !plans.is_empty() {
            self.hand_over(sight, (id, kept), plans, Vec::new(), None);
        }
    }

    async fn demands(&self, planned: &Planned, sight: &Sight, until_ms: u64) -> Demands {
        let units: Vec<(&Unit, ResourceKind)> =
            planned.plans.iter().flat_map(|one| ResourceKind::ALL.map(|kind| (&one.unit, kind))).collect();
        Demands::gather(&units, sight, (&self.ground, &self.usual, self.step_ms), until_ms).await
    }

    /// What a policy in force holds for and has no plan of its; and plans of its that nothing stands behind any more.
    async fn extend(&self, id: ChangeId, kept: &Kept, sight: &Sight) {
        let Some(edit) = kept.edit() else { return };
        let (ending, planned_for) = self.plans_of_policy(id, edit, sight);
        let shaping = kept.shaping(&sight.book);
        let is_current = sight.book.policies().get(edit.name()).is_some_and(|held| held.change == id);
        let mut plans = Vec::new();
        if is_current && let Some(decision) = kept.decision() {
            let change = kept.text().change();
            let wanted = Wanted { change, edit, shaping: &shaping, decision: Some(decision) };
            let is_planned = |unit: &Unit| planned_for.contains(&(unit.host, unit.target.clone()));
            let late = sight.with_scene(&Demands::default(), |scene| plans_of_late(&wanted, scene, is_planned));
            plans = plans_in(&late);
        }
        if !(plans.is_empty() && ending.is_empty()) {
            self.hand_over(sight, (id, kept), plans, ending, None);
        }
    }

    /// The given plans of a change whose policy holds for their unit no more; and for which units there are plans of this policy.
    fn plans_of_policy(&self, id: ChangeId, edit: &Edit, sight: &Sight) -> (Ending, Vec<(HostId, Target)>) {
        let held = sight.standing.held(sight.book.map());
        let holds = |host: &HostId, target: &Target| {
            let mut units = sight.standing.units.iter().zip(&held.holdings);
            units
                .find(|(unit, _)| unit.host == *host && unit.target == *target)
                .map(|(_, holding)| holding.as_ref().is_some_and(|holding| holding.policy.name == *edit.name()))
        };
        let (mut ending, mut planned_for) = (Vec::new(), Vec::new());
        for snapshot in &sight.hosts {
            for record in snapshot.plans.iter().filter(|record| record.over().is_none()) {
                let plan = record.plan();
                let of_policy = record.change().and_then(|change| sight.book.changes().get(&change));
                let is_of_policy = of_policy.is_some_and(|kept| kept.record().name.as_str() == edit.name().as_str());
                if !is_of_policy {
                    continue;
                }
                let stands_still = record.change().is_some_and(|id| sight.book.is_of_freeze(&id, record.made_at_ms()));
                if !stands_still {
                    planned_for.push((plan.host, plan.target.clone()));
                }
                // Of a unit that does not run nothing is known: it may come back.
                if record.change() == Some(id) && holds(&plan.host, &plan.target) == Some(false) {
                    ending.push((plan.host, plan.id));
                }
            }
        }
        (ending, planned_for)
    }

    /// What was taken back while it moved goes back as it came; then its plans end.
    fn take_back(&self, id: ChangeId, kept: &Kept, sight: &Sight) {
        let (mut plans, mut ending): (Vec<CheckedPlan>, Ending) = (Vec::new(), Vec::new());
        let was_in_force = kept.record().state == State::Revoked;
        let since_ms = kept.record().since_ms;
        let given = sight.hosts.iter().flat_map(|snapshot| &snapshot.plans);
        for record in given.filter(|record| record.over().is_none() && record.change() == Some(id)) {
            let plan = record.plan();
            let is_back = record.made_at_ms() > since_ms;
            if is_back && sight.now_ms >= plan.effective_at_ms {
                ending.push((plan.host, plan.id));
            }
            if is_back || was_in_force {
                continue;
            }
            match kept.edit().map(|edit| sight.with_scene(&Demands::default(), |scene| plans_back(edit, record, scene)))
            {
                Some(Some(back)) => plans.push(back),
                // Nothing limited it before: what it had before Quotary holds again at once.
                _ => ending.push((plan.host, plan.id)),
            }
        }
        if was_in_force {
            ending.extend(self.without_policy(id, kept, sight));
        }
        if !(plans.is_empty() && ending.is_empty()) {
            self.hand_over(sight, (id, kept), plans, ending, None);
        }
    }

    /// Plans of a document that holds no more, of units that its policy holds for no more.
    fn without_policy(&self, id: ChangeId, kept: &Kept, sight: &Sight) -> Ending {
        let Some(edit) = kept.edit() else { return Vec::new() };
        match sight.book.policies().contains_key(edit.name()) {
            true => self.plans_of_policy(id, edit, sight).0,
            false => {
                let given = sight.hosts.iter().flat_map(|snapshot| &snapshot.plans);
                let own = given.filter(|record| record.over().is_none() && record.change() == Some(id));
                own.map(|record| (record.plan().host, record.plan().id)).collect()
            }
        }
    }

    fn hand_over(
        &self,
        sight: &Sight,
        (id, kept): (ChangeId, &Kept),
        plans: Vec<CheckedPlan>,
        ending: Ending,
        told: Option<Input>,
    ) {
        let why = told.is_none().then(|| format!("{} made, {} ended", plans.len(), ending.len()));
        let (text, is_held) = (kept.record().text, sight.book.held_until_ms(&id).is_some());
        self.queue.plans_made(PlansMade { change: id, text, is_held, plans, ending, told, why });
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
