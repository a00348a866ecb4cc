//! What holds has its plans: each unit the plan of the policy that is in force for it, and nothing stands behind a plan of anything else.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::envelope::Name;
use quotary_common::id::{ChangeId, HostId, PlanId};
use quotary_common::plan::Target;

use super::of_change::{HostNow, LATE_MS, Planned, Scene, Wanted, plan_late, says_anything, says_more};
use super::record::PlanRecord;
use crate::policy::{Holding, Unit};

/// What stands behind a given plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// A person, or a change that moves or is held where it is: it is left alone.
    LeaveAlone,
    /// A change that is over without having come into force: what held before holds again, as slowly as it went.
    TakenBack,
    /// Any other change: it is in force, or was.
    Change(ChangeId),
    /// A freeze that is over: it goes on.
    Thawed,
}

/// A policy in force.
#[derive(Debug, Clone, Copy)]
pub struct Ruling<'a> {
    /// The change that put it in force.
    pub change: ChangeId,
    /// What its plans are made from.
    pub wanted: Wanted<'a>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settled {
    /// Plans by the change that they are of.
    pub planned: BTreeMap<ChangeId, Planned>,
    /// Plans that nothing stands behind any more, with the change that they are of.
    pub ending: Vec<(ChangeId, HostId, PlanId)>,
}

impl Settled {
    fn end(&mut self, record: &PlanRecord) {
        let plan = record.plan();
        self.ending.extend(record.change().map(|change| (change, plan.host, plan.id)));
    }
}

/// What is to be done so that every unit has what the policies in force say.
///
/// Where policies are tied nobody knows what holds: what is there stays. Of a unit that does not run nothing is known: its plan stays as long as the
/// change that it is of is in force, unless its target `is_gone`.
pub fn settle(
    rulings: &BTreeMap<Name, Ruling<'_>>,
    behind: impl Fn(&PlanRecord) -> Behind,
    is_gone: impl Fn(&PlanRecord) -> bool,
    scene: &Scene<'_>,
) -> Settled {
    let held = scene.standing.held(scene.map);
    let is_tied =
        |unit: &Unit| held.ties.iter().any(|tie| tie.host == unit.host && tie.application == unit.application);
    let mut out = Settled::default();
    let mut seen: BTreeSet<(HostId, &Target)> = BTreeSet::new();
    for (unit, holding) in scene.standing.units.iter().zip(&held.holdings) {
        seen.insert((unit.host, &unit.target));
        if is_tied(unit) {
            continue;
        }
        let given = scene.hosts.get(&unit.host).and_then(|now| given(now, &unit.target));
        let stands = given.map(|record| (record, behind(record)));
        if stands.is_some_and(|(_, behind)| behind == Behind::LeaveAlone) {
            continue;
        }
        let says = |held: &&Holding| says_anything(held);
        let ruling = holding.as_ref().filter(says).and_then(|held| Some((held, rulings.get(&held.policy.name)?)));
        match (ruling, stands) {
            (None, Some((record, _))) => out.end(record),
            (None, None) => {}
            (Some((held, ruling)), stands) => {
                let is_it = stands.is_some_and(|(record, behind)| {
                    // Who decides may have changed: a host that has not acted on it takes it by the newer decision alone.
                    let is_decided =
                        record.plan().decision.as_deref() == ruling.wanted.decision || record.is_aligned(scene.now_ms);
                    behind == Behind::Change(ruling.change) && is_decided && !says_more(record.plan(), held)
                });
                if !is_it {
                    let not_before_ms = stands.map_or(0, |stands| way_back_ms(stands, scene));
                    let planned = out.planned.entry(ruling.change).or_default();
                    plan_late(planned, (&ruling.wanted, not_before_ms), scene, unit, held);
                }
            }
        }
    }
    let in_force: BTreeSet<ChangeId> = rulings.values().map(|ruling| ruling.change).collect();
    for (host, now) in scene.hosts {
        let unseen = now.plans.iter().filter(|record| record.over().is_none());
        for record in unseen.filter(|record| !seen.contains(&(*host, &record.plan().target))) {
            let stays = match behind(record) {
                Behind::LeaveAlone => true,
                _ if is_gone(record) => false,
                Behind::Change(change) => in_force.contains(&change),
                Behind::Thawed => record.change().is_some_and(|change| in_force.contains(&change)),
                Behind::TakenBack => false,
            };
            if !stays {
                out.end(record);
            }
        }
    }
    out
}

/// The plan that a target has.
fn given<'a>(now: &HostNow<'a>, target: &Target) -> Option<&'a PlanRecord> {
    let mut plans = now.plans.iter().filter(|record| record.over().is_none());
    plans.find(|record| record.plan().target == *target).map(|record| &**record)
}

/// When what was taken back is there again, Unix ms: it takes as long as it went. It may have been made anew on its way: it went with the first of its plans.
fn way_back_ms((record, behind): (&PlanRecord, Behind), scene: &Scene<'_>) -> u64 {
    if behind != Behind::TakenBack {
        return 0;
    }
    let plan = record.plan();
    let plans = scene.hosts.get(&plan.host).map(|now| now.plans).unwrap_or_default();
    let own = plans.iter().filter(|other| other.plan().target == plan.target && other.change() == record.change());
    let began_ms = own.map(|other| other.plan().starts_at_ms).min().unwrap_or(plan.starts_at_ms);
    let went_ms = scene.now_ms.min(plan.effective_at_ms).saturating_sub(began_ms);
    scene.now_ms.saturating_add(went_ms.div_ceil(1_000).saturating_mul(1_000).max(LATE_MS))
}
