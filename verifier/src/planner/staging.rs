//! Roll-out of a change's plans in stages of hosts, halted when something suffers.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use quotary_common::id::{ChangeId, HostId};
use quotary_decide::policy::Shaping;
use quotary_decide::shape::Planned;
use quotary_decide::shape::rollout::{Counts, Next, Rollout, Stand};

use super::Sight;

/// What one stage may let pass: pressure may hold a plan once, and quotas throttle now and then; nothing may be killed, and nobody else write.
const MOST: Counts = Counts { throttled: 5, out_of_memory: 0, pressed: 1, contested: 0 };

/// For so long no news is no reason to hold, ms.
const NEWS_MS: u64 = 120_000;

/// A change's roll-out.
#[derive(Debug)]
struct Staged {
    rollout: Rollout,
    stand: Stand,
    /// What the hosts with plans had suffered at the look before.
    suffered: Counts,
    /// The newest evidence at the look before, Unix ms.
    seen_ms: u64,
}

/// The roll-outs of changes that move.
#[derive(Debug, Default)]
pub(super) struct Staging(BTreeMap<ChangeId, Staged>);

impl Staging {
    /// The plans of the stage that a change is in; those of later stages wait. Without a roll-out all are of the first.
    pub(super) fn of_stage(
        &mut self,
        id: ChangeId,
        shaping: &Shaping,
        window_ms: u64,
        planned: &mut Planned,
        sight: &Sight,
    ) {
        let hosts = hosts_of(id, planned, sight);
        let Some(staged) = self.begun(id, shaping, window_ms, &hosts, sight) else { return };
        let may = staged.rollout.hosts(id.as_bytes(), &hosts, staged.stand.stage());
        planned.plans.retain(|one| may.contains(&one.unit.host));
    }

    fn begun(
        &mut self,
        id: ChangeId,
        shaping: &Shaping,
        window_ms: u64,
        hosts: &BTreeSet<HostId>,
        sight: &Sight,
    ) -> Option<&mut Staged> {
        let stages: Vec<u8> =
            shaping.rollout_percent.iter().filter_map(|percent| u8::try_from(*percent).ok()).collect();
        if stages.len() < 2 {
            return None;
        }
        if let Entry::Vacant(new) = self.0.entry(id) {
            // Each stage has as much of the window, and the last one twice that.
            let hold_ms = window_ms / (stages.len() as u64 + 1);
            let rollout = Rollout::new(stages, hold_ms, MOST).ok()?;
            // After a restart: the stage that holds every host that has a plan.
            let have: BTreeSet<HostId> = given(id, sight).map(|(host, _)| host).collect();
            let stage =
                (0..rollout.stages()).find(|stage| have.is_subset(&rollout.hosts(id.as_bytes(), hosts, *stage)));
            let stand = Stand::resume(stage.unwrap_or_default(), sight.now_ms);
            new.insert(Staged { rollout, stand, suffered: suffered(id, sight), seen_ms: 0 });
        }
        self.0.get_mut(&id)
    }

    /// Looks at the guards of a change that moves; why it is halted, if it is.
    pub(super) fn look(&mut self, id: ChangeId, sight: &Sight) -> Option<String> {
        let staged = self.0.get_mut(&id)?;
        let now = suffered(id, sight);
        // As old as what the host says that was silent for longest: one that is heard speaks for no other.
        let newest_ms = given(id, sight).map(|(_, committed_at_ms)| committed_at_ms).min()?;
        let counted = (newest_ms > staged.seen_ms).then(|| now.since(staged.suffered));
        // Between two evidences there is nothing to see; from hosts that are silent for long nothing is known.
        let is_news = staged.seen_ms > 0 && sight.now_ms.saturating_sub(newest_ms) < NEWS_MS;
        let counted = counted.or_else(|| is_news.then(Counts::default));
        (staged.suffered, staged.seen_ms) = (now, newest_ms);
        match staged.stand.look(&staged.rollout, counted, sight.now_ms) {
            Next::Halt { guard, counted, most } => {
                let often = if counted == 1 { "once".to_owned() } else { format!("{counted} times") };
                Some(format!(
                    "its roll-out was halted: targets were {guard} {often} in one stage, which lets {most} pass"
                ))
            }
            Next::Begin { stage } => {
                tracing::info!(change = %id, stage = stage + 1, "the next stage of a roll-out begins");
                None
            }
            Next::Hold { .. } | Next::Done => None,
        }
    }

    /// Lets go of changes that move no more.
    pub(super) fn keep(&mut self, moving: &BTreeSet<ChangeId>) {
        self.0.retain(|change, _| moving.contains(change));
    }
}

/// The hosts that the change moves something on: those that would get plans, and those that have one.
fn hosts_of(id: ChangeId, planned: &Planned, sight: &Sight) -> BTreeSet<HostId> {
    planned.plans.iter().map(|one| one.unit.host).chain(given(id, sight).map(|(host, _)| host)).collect()
}

/// The hosts with plans of a change, and when each was heard of last, Unix ms.
fn given(id: ChangeId, sight: &Sight) -> impl Iterator<Item = (HostId, u64)> + '_ {
    let has = move |snapshot: &&std::sync::Arc<crate::core::HostSnapshot>| {
        snapshot.plans.iter().any(|record| record.over().is_none() && record.change() == Some(id))
    };
    let told = |snapshot: &std::sync::Arc<crate::core::HostSnapshot>| {
        (snapshot.host.record.host, snapshot.host.progress.committed_at_ms)
    };
    sight.hosts.iter().filter(has).map(told)
}

/// What all targets with plans of a change have suffered, those of plans that were replaced too.
fn suffered(id: ChangeId, sight: &Sight) -> Counts {
    let records = sight.hosts.iter().flat_map(|snapshot| &snapshot.plans);
    let own = records.filter(|record| record.change() == Some(id));
    own.fold(Counts::default(), |all, record| all.plus(record.suffered()))
}
