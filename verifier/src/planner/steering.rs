//! While plans run: they are made anew when demand leaves the band that they were made for or the actual is off, and what is beyond tolerance is told.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::id::{ChangeId, HostId};
use quotary_common::plan::{CheckedPlan, Target};
use quotary_common::quorum::change::Change;
use quotary_decide::policy::life::Input;
use quotary_decide::shape::{PlanRecord, Planned, Steered, plan_again};

use super::{Demands, Sight};
use crate::core::HostSnapshot;

/// The running plans of changes that move.
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
pub(super) struct Turns {
    /// Plans that take the place of those that run.
    pub(super) anew: Vec<CheckedPlan>,
    /// What is beyond tolerance.
    pub(super) off: Option<Input>,
}

impl Steering {
    /// Remembers what was planned.
    pub(super) fn note(&mut self, change: ChangeId, planned: &Planned) {
        for one in &planned.plans {
            let steered = Steered::new(one.plan.plan(), one.ways.clone());
            self.plans.insert((change, one.unit.host, one.unit.target.clone()), steered);
        }
    }

    /// Takes up the running plans of which nothing is remembered, as after a restart: as they would be `planned` now.
    pub(super) fn take_up(&mut self, change: ChangeId, planned: &Planned, sight: &Sight) {
        let ways: BTreeMap<(HostId, &Target), _> =
            planned.plans.iter().map(|one| ((one.unit.host, &one.unit.target), &one.ways)).collect();
        for (_, record) in running(change, sight) {
            let plan = record.plan();
            let key = (change, plan.host, plan.target.clone());
            if let Some(ways) = ways.get(&(plan.host, &plan.target)) {
                self.plans.entry(key).or_insert_with(|| Steered::new(plan, ways.to_vec()));
            }
        }
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
    pub(super) fn look(&mut self, change: &Change, sight: &Sight, demands: &Demands) -> Turns {
        let id = change.id;
        let mut anew = Vec::new();
        let mut off = Vec::new();
        for (snapshot, record) in running(id, sight) {
            let plan = record.plan();
            let steered = self.plans.get_mut(&(id, plan.host, plan.target.clone()));
            let Some(steered) = steered.filter(|steered| steered.is_of(plan)) else { continue };
            let unit = sight.standing.units.iter().find(|unit| unit.host == plan.host && unit.target == plan.target);
            let Some(unit) = unit else { continue };
            let times = (snapshot.host.progress.committed_at_ms, sight.now_ms);
            let steps = steered.look((unit, record), times, |unit, kind| demands.of(unit, kind));
            off.extend(steps.off);
            let Some(ways) = steps.anew else { continue };
            if let Some(plan) = sight.with_scene(demands, |scene| plan_again(record, change, &ways, scene)) {
                tracing::info!(target = %unit.target, host = %unit.host, plan = %plan.plan().id, "a plan is made anew");
                steered.go_on(plan.plan().id, ways);
                anew.push(plan);
            }
        }
        let told = off.split_first().map(|(first, others)| match others.len() {
            0 => first.clone(),
            more => format!("{first} (and {more} more)"),
        });
        Turns { anew, off: told.map(Input::Deviated) }
    }
}

/// The plans of a change that are given, with their hosts.
fn running(change: ChangeId, sight: &Sight) -> impl Iterator<Item = (&HostSnapshot, &PlanRecord)> {
    let given = sight.hosts.iter().flat_map(|snapshot| snapshot.plans.iter().map(move |plan| (&**snapshot, &**plan)));
    given.filter(move |(_, record)| record.over().is_none() && record.change() == Some(change))
}
