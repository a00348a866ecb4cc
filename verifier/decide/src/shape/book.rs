//! All plans, by host, and which of a change are given: what the writer asks with each evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quotary_common::envelope::Envelope;
use quotary_common::id::{ChangeId, Digest, HostId, PlanId};
use quotary_common::leaf::PlanChange;
use quotary_common::plan::Target;

use super::record::{PlanRecord, PlanWrite};

/// How long a plan that is over is shown, ms.
const KEEP_MS: u64 = 24 * 3_600_000;

/// All plans, by host.
#[derive(Debug, Clone, Default)]
pub struct PlanBook {
    hosts: BTreeMap<HostId, BTreeMap<PlanId, Arc<PlanRecord>>>,
    /// Those of changes that are given.
    changes: BTreeMap<ChangeId, OfChange>,
}

/// A plan's place.
type Key = (HostId, PlanId);

/// The given plans of a change: with every evidence somebody asks how they fare, and there may be one for each host.
#[derive(Debug, Clone, Default)]
struct OfChange {
    given: BTreeSet<Key>,
    /// Those that do not go where they should.
    off: BTreeSet<Key>,
    /// One that was not aligned when somebody asked last: as long as it is not, no other need be looked at.
    behind: Option<Key>,
}

impl PlanBook {
    /// Puts a plan in, as it was kept or newly made.
    pub fn put(&mut self, record: PlanRecord) {
        let plans = self.hosts.entry(record.plan().host).or_default();
        let record = Arc::new(record);
        plans.insert(record.plan().id, Arc::clone(&record));
        index(&mut self.changes, &record);
    }

    /// All plans of a host, those that are over too.
    pub fn of_host(&self, host: &HostId) -> impl Iterator<Item = &Arc<PlanRecord>> {
        self.hosts.get(host).into_iter().flat_map(BTreeMap::values)
    }

    /// The plans that a host is given, in the order of their ids.
    pub fn given(&self, host: &HostId) -> impl Iterator<Item = &Arc<PlanRecord>> {
        self.of_host(host).filter(|record| record.over().is_none())
    }

    /// The plans of a change that are given, on all hosts.
    pub fn of_change<'a>(&'a self, change: &'a ChangeId) -> impl Iterator<Item = &'a Arc<PlanRecord>> {
        let given = self.changes.get(change).into_iter().flat_map(|of_change| &of_change.given);
        given.filter_map(move |(host, plan)| self.get(host, plan))
    }

    /// A plan of a change that does not go where it should; the first, by host.
    pub fn off(&self, change: &ChangeId) -> Option<&Arc<PlanRecord>> {
        let (host, plan) = self.changes.get(change)?.off.first()?;
        self.get(host, plan)
    }

    /// Whether every given plan of a change is aligned at `now_ms` (Unix ms); so are none.
    pub fn are_aligned(&mut self, change: &ChangeId, now_ms: u64) -> bool {
        self.look_for_one_behind(change, now_ms).0
    }

    /// Whether none is behind, and how many were looked at: from the one that was behind last, round to it.
    pub(super) fn look_for_one_behind(&mut self, change: &ChangeId, now_ms: u64) -> (bool, usize) {
        let Some(of_change) = self.changes.get_mut(change) else { return (true, 0) };
        let hosts = &self.hosts;
        let mut looked = 0;
        let mut is_behind = |(host, plan): &&Key| {
            looked += 1;
            hosts.get(host).and_then(|plans| plans.get(plan)).is_some_and(|record| !record.is_aligned(now_ms))
        };
        let given = &of_change.given;
        of_change.behind = match of_change.behind {
            Some(last) => given.range(last..).chain(given.range(..last)).find(&mut is_behind).copied(),
            None => given.iter().find(&mut is_behind).copied(),
        };
        (of_change.behind.is_none(), looked)
    }

    /// One plan.
    pub fn get(&self, host: &HostId, plan: &PlanId) -> Option<&Arc<PlanRecord>> {
        self.hosts.get(host)?.get(plan)
    }

    /// The greatest generation that a target has had, as far as is known; 0 for none.
    pub fn last_generation(&self, host: &HostId, target: &Target) -> u64 {
        let of_target = self.of_host(host).filter(|record| record.plan().target == *target);
        of_target.map(|record| record.plan().generation).max().unwrap_or_default()
    }

    /// Ends the plans that `which` picks; they are shown for a day. Gives them as they are now.
    pub fn end(
        &mut self,
        host: &HostId,
        change: PlanChange,
        now_ms: u64,
        which: impl Fn(&PlanRecord) -> bool,
    ) -> Vec<Arc<PlanRecord>> {
        let plans = self.hosts.get_mut(host).into_iter().flat_map(BTreeMap::values_mut);
        let ending = plans.filter(|record| record.over().is_none() && which(record));
        let ended = ending.map(|record| {
            Arc::make_mut(record).end(change, now_ms);
            index(&mut self.changes, record);
            Arc::clone(record)
        });
        ended.collect()
    }

    /// Notes what an accepted envelope tells of plans: writes, and how they fare. Gives the plans that it tells of, as they are now.
    pub fn note(&mut self, envelope: &Envelope, evidence: Digest, now_ms: u64) -> Vec<Arc<PlanRecord>> {
        let mut touched: Vec<PlanId> = Vec::new();
        let Some(plans) = self.hosts.get_mut(&envelope.host) else { return Vec::new() };
        for write in envelope.writes.iter() {
            let Some((id, record)) = write.plan.and_then(|id| Some((id, plans.get_mut(&id)?))) else { continue };
            Arc::make_mut(record).note(PlanWrite {
                control: write.control.clone(),
                after: write.after.clone(),
                actual: write.actual.clone(),
                effective: write.effective,
                dry_run: write.dry_run,
                evidence,
                committed_at_ms: now_ms,
            });
            touched.push(id);
        }
        let of_plan = |id: PlanId| envelope.writes.iter().filter(move |write| write.plan == Some(id));
        for (id, record) in plans.iter_mut().filter(|(_, record)| record.over().is_none()) {
            if envelope.events.iter().any(|event| record.is_of_target(event))
                && Arc::make_mut(record).note_suffered(envelope)
            {
                touched.push(*id);
            }
            let written_at_ms = of_plan(*id).map(|write| write.at_ms).max();
            if written_at_ms.is_none() && !envelope.events.iter().any(|event| record.is_about(event)) {
                continue;
            }
            if Arc::make_mut(record).note_told(envelope, written_at_ms, (evidence, now_ms)) {
                touched.push(*id);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        let touched: Vec<Arc<PlanRecord>> = touched.iter().filter_map(|id| plans.get(id).cloned()).collect();
        touched.iter().for_each(|record| index(&mut self.changes, record));
        touched
    }

    /// Plans whose end has come: they are over from now on.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Arc<PlanRecord>> {
        let hosts: Vec<HostId> = self.hosts.keys().copied().collect();
        let over = |record: &PlanRecord| record.plan().ends_at_ms.is_some_and(|ends_at_ms| ends_at_ms <= now_ms);
        hosts.iter().flat_map(|host| self.end(host, PlanChange::Ended, now_ms, over)).collect()
    }

    /// Lets go of plans that have been over for a day.
    pub fn forget(&mut self, now_ms: u64) -> Vec<Arc<PlanRecord>> {
        let mut gone = Vec::new();
        for plans in self.hosts.values_mut() {
            plans.retain(|_, record| {
                let keep = record.over().is_none_or(|(_, at_ms)| at_ms.saturating_add(KEEP_MS) > now_ms);
                if !keep {
                    gone.push(Arc::clone(record));
                }
                keep
            });
        }
        self.hosts.retain(|_, plans| !plans.is_empty());
        gone
    }
}

/// Puts a record where it belongs in the index as it is now.
fn index(changes: &mut BTreeMap<ChangeId, OfChange>, record: &PlanRecord) {
    let Some(change) = record.change() else { return };
    let key = (record.plan().host, record.plan().id);
    let of_change = changes.entry(change).or_default();
    let is_given = record.over().is_none();
    let is_off = is_given && record.told().is_some_and(|told| told.is_off());
    let put = |set: &mut BTreeSet<Key>, is_in: bool| if is_in { set.insert(key) } else { set.remove(&key) };
    put(&mut of_change.given, is_given);
    put(&mut of_change.off, is_off);
    if of_change.given.is_empty() {
        changes.remove(&change);
    }
}
