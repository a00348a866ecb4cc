//! While plans run: they are made anew when demand leaves the band that they were made for or the actual is off, and what is beyond tolerance is told.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::id::{ChangeId, HostId};
use quotary_common::plan::{CheckedPlan, Target};
use quotary_decide::change::Kept;
use quotary_decide::policy::life::Input;
use quotary_decide::shape::{Planned, Steered, plan_again};

use super::{Demands, Sight};

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
    /// So it goes for one, too, that came to run after nobody waited for it any more.
    pub(super) fn take_up(&mut self, kept: &Kept, planned: &Planned, sight: &Sight) {
        let ways: BTreeMap<(HostId, &Target), _> =
            planned.plans.iter().map(|one| ((one.unit.host, &one.unit.target), &one.ways)).collect();
        for (_, record) in sight.running(kept) {
            let plan = record.plan();
            let key = (kept.text().change().id, plan.host, plan.target.clone());
            let ways = || ways.get(&(plan.host, &plan.target)).map(|ways| ways.to_vec()).unwrap_or_default();
            let steered = self.plans.entry(key).or_insert_with(|| Steered::new(plan, ways()));
            if !steered.runs_as(plan) {
                *steered = Steered::new(plan, ways());
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
    pub(super) fn look(&mut self, kept: &Kept, sight: &Sight, demands: &Demands) -> Turns {
        let change = kept.text().change();
        let mut anew = Vec::new();
        let (mut late, mut off) = (Vec::new(), Vec::new());
        for (snapshot, record) in sight.running(kept) {
            let plan = record.plan();
            let key = (change.id, plan.host, plan.target.clone());
            let Some(steered) = self.plans.get_mut(&key) else { continue };
            if !steered.runs_as(plan) {
                continue;
            }
            let unit = sight.standing.units.iter().find(|unit| unit.host == plan.host && unit.target == plan.target);
            let Some(unit) = unit else { continue };
            let times = (snapshot.host.progress.committed_at_ms, sight.now_ms);
            let steps = steered.look((unit, record), times, |unit, kind| demands.of(unit, kind));
            late.extend(steps.late);
            off.extend(steps.off);
            let Some(ways) = steps.anew else { continue };
            let Some(again) = sight.with_scene(demands, |scene| plan_again(record, change, &ways, scene)) else {
                tracing::warn!(target = %unit.target, host = %unit.host, plan = %plan.id, "a plan cannot be made anew now");
                continue;
            };
            tracing::info!(target = %unit.target, host = %unit.host, plan = %again.plan().id, "a plan is made anew");
            steered.await_plan(again.plan().id, ways);
            anew.push(again);
        }
        Turns { anew, off: told(change.id, late, off).map(Input::Deviated) }
    }
}

/// What is told of all that is beyond tolerance, what cannot be in time any more first; each goes into the log.
fn told(change: ChangeId, late: Vec<String>, off: Vec<String>) -> Option<String> {
    let all: Vec<String> = late.into_iter().chain(off).collect();
    for why in &all {
        tracing::warn!(%change, why, "limits are not as planned");
    }
    let (first, others) = all.split_first()?;
    Some(match others.len() {
        0 => first.clone(),
        more => format!("{first} (and {more} more)"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_that_is_off_what_comes_too_late_is_told_first() {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let told = |late: &[&str], off: &[&str]| told(ChangeId::new([1; 32]), lines(late), lines(off));
        assert_eq!(told(&[], &[]), None);
        assert_eq!(told(&[], &["a is off"]).as_deref(), Some("a is off"));
        assert_eq!(told(&["b is late"], &["a is off", "b is off"]).as_deref(), Some("b is late (and 2 more)"));
    }
}
