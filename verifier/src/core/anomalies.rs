//! Alarms: kept with their leaves, shown to readers, bounded.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use quotary_common::anomaly::Anomaly;
use quotary_common::cbor::Text;
use quotary_common::id::HostId;
use quotary_common::leaf::Decision;
use quotary_decide::alarm::{AlarmBook, AlarmRecord, Place};

use super::state::{State, Step};
use super::tables;
use crate::predict::ToldBefore;
use crate::store::Partition;

/// An alarm that is new or changed, or one that is let go of.
pub(super) type AlarmChange = (Vec<u8>, Option<Arc<AlarmRecord>>);

/// The alarms that are kept, for readers.
#[derive(Debug, Default)]
pub struct AlarmList(RwLock<AlarmBook>);

impl AlarmList {
    pub(super) fn publish(&self, changes: Vec<AlarmChange>) {
        if changes.is_empty() {
            return;
        }
        let mut listed = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, change) in changes {
            match change {
                Some(alarm) => listed.put(key, alarm),
                None => listed.remove(&key),
            }
        }
    }

    /// Alarms of which something was told at or after `since_ms` (Unix time), of one host or of all; the newest first.
    pub fn since(&self, host: Option<&HostId>, since_ms: u64) -> Vec<Arc<AlarmRecord>> {
        let listed = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is_asked_for = |alarm: &&Arc<AlarmRecord>| alarm.told_at_ms() >= since_ms;
        match host {
            None => listed.iter().rev().map(|(_, alarm)| alarm).filter(is_asked_for).cloned().collect(),
            Some(host) => listed.of_host(host).filter(is_asked_for).cloned().collect(),
        }
    }

    /// A host's newest alarm, if something of it was told at or after `since_ms` (Unix time): what its results warn of. What applications
    /// state of themselves is none of the host's.
    pub fn newest_of(&self, host: &HostId, since_ms: u64) -> Option<Arc<AlarmRecord>> {
        let alarms = self.since(Some(host), since_ms).into_iter();
        alarms.into_iter().find(|alarm| matches!(alarm.place(), Place::Host(_)))
    }

    /// Alarms of a host in which this subject (`host`, a cgroup's path) is named, told at or after `since_ms`; the newest first. For whoever
    /// scores the risk of what runs there.
    pub fn of_subject(&self, host: &HostId, subject: &str, since_ms: u64) -> Vec<Arc<AlarmRecord>> {
        let subject = Text::lossy(subject);
        let names = |alarm: &Arc<AlarmRecord>| alarm.findings().iter().any(|finding| finding.subject == subject);
        self.since(Some(host), since_ms).into_iter().filter(names).collect()
    }
}

impl State {
    /// What was told before this start.
    pub fn told_before(&self) -> ToldBefore {
        ToldBefore {
            until_ms: self.judged_until_ms,
            alarms: self.alarms.iter().map(|(_, alarm)| Arc::clone(alarm)).collect(),
        }
    }

    /// Takes alarms, and that all steps that ended before `until_ms` (Unix time) are judged.
    pub(super) fn judged(&mut self, alarms: Vec<Anomaly>, until_ms: u64, now_ms: u64) -> Step {
        let (mut step, mut changed) = (Step::default(), BTreeSet::new());
        for anomaly in alarms {
            let sum = anomaly.sum.as_ref().map(Text::as_str);
            let key = AlarmRecord::key_of(anomaly.at_ms, anomaly.host.as_ref(), sum);
            let record = AlarmRecord::of(self.alarms.get(&key).map(Arc::as_ref), &anomaly, now_ms);
            step.leaf(now_ms, "verifier", Decision::Anomaly(anomaly));
            self.alarms.put(key.clone(), Arc::new(record));
            changed.insert(key);
        }
        let oldest_ms = now_ms.saturating_sub(self.settings.history_keep_ms);
        for key in self.alarms.let_go(oldest_ms) {
            step.delete(tables::ANOMALIES, Partition::Deployment, key.clone());
            step.alarms.push((key, None));
        }
        // What was let go of at once is not kept: a batch deletes before it puts.
        for key in changed {
            let Some(record) = self.alarms.get(&key).cloned() else { continue };
            step.put(tables::ANOMALIES, Partition::Deployment, &key, &*record);
            step.alarms.push((key, Some(record)));
        }
        let until_ms = self.judged_until_ms.map_or(until_ms, |before| before.max(until_ms));
        self.judged_until_ms = Some(until_ms);
        let batch = std::mem::take(&mut step.batch);
        step.batch = batch.put(tables::JUDGED, Partition::Deployment, tables::JUDGED_UNTIL, until_ms.to_be_bytes());
        step
    }
}

#[cfg(test)]
mod tests {
    use quotary_common::anomaly::{AnomalyFinding, AnomalyKind};
    use quotary_common::cbor::Bounded;
    use quotary_common::id::Digest;
    use quotary_decide::alarm::ALARMS_OF_ONE_MAX;

    use super::super::testing::{NOW_MS, commit, load};
    use super::*;
    use crate::store::MemoryStore;

    fn anomaly(host: Option<u8>, at_ms: u64, subject: &str) -> Anomaly {
        let finding = AnomalyFinding {
            subject: Text::lossy(subject),
            resource: Text::lossy("cpu_millicores"),
            kind: AnomalyKind::Spike,
            at_ms,
            score_permille: 600,
            expected_milli: 1,
            came_milli: 2,
            points: 1,
        };
        let (host, sum) = (host.map(|n| HostId::of(&[&[n]])), host.is_none().then(|| Text::lossy("pool:lab")));
        let findings = Bounded::truncating(vec![finding]).0;
        Anomaly { host, sum, at_ms, continues: false, findings, beyond: 0, input: Digest::of(&[]) }
    }

    fn change(host: Option<u8>, at_ms: u64, subject: &str) -> AlarmChange {
        let record = AlarmRecord::of(None, &anomaly(host, at_ms, subject), at_ms + 10);
        (record.key(), Some(Arc::new(record)))
    }

    #[test]
    fn alarms_are_listed_newest_first_by_host_subject_and_time_and_let_go_of() {
        let (list, a) = (AlarmList::default(), HostId::of(&[&[1]]));
        list.publish(vec![
            change(Some(1), 100, "host"),
            change(Some(2), 200, "host"),
            change(Some(1), 300, "/web"),
            change(None, 250, "pool:lab"),
        ]);
        let times = |listed: Vec<Arc<AlarmRecord>>| listed.iter().map(|alarm| alarm.at_ms()).collect::<Vec<_>>();
        assert_eq!(times(list.since(None, 0)), [300, 250, 200, 100]);
        assert_eq!(times(list.since(Some(&a), 0)), [300, 100]);
        assert_eq!(times(list.since(None, 260)), [300, 250], "by when they were told");
        assert_eq!(times(list.of_subject(&a, "host", 0)), [100]);
        assert_eq!(list.newest_of(&a, 310).map(|alarm| alarm.at_ms()), Some(300));
        assert_eq!(list.newest_of(&a, 311), None);
        let gone = change(Some(1), 300, "/web").0;
        list.publish(vec![(gone, None)]);
        assert_eq!(times(list.since(Some(&a), 0)), [100]);
        list.publish(vec![(change(Some(1), 100, "host").0, None)]);
        assert_eq!((list.since(Some(&a), 0).len(), list.since(None, 0).len()), (0, 2));
    }

    #[test]
    fn one_host_that_alarms_all_day_leaves_its_newest_alarms_over_a_restart() {
        let mut store = MemoryStore::new();
        let mut state = load(&store);
        let most = ALARMS_OF_ONE_MAX as u64;
        let all: Vec<Anomaly> = (0..most + 9).map(|n| anomaly(Some(1), NOW_MS + n, "host")).collect();
        let step = state.judged(all, NOW_MS + most + 9, NOW_MS);
        assert_eq!(commit(&mut store, &step).len() as u64, most + 9, "each has its leaf");
        // One that is older than all that are kept finds no room.
        let late = state.judged(vec![anomaly(Some(1), NOW_MS, "host")], NOW_MS + most + 10, NOW_MS);
        let _late = commit(&mut store, &late);
        let host = HostId::of(&[&[1]]);
        let kept: Vec<u64> = load(&store).alarms.of_host(&host).map(|alarm| alarm.at_ms()).collect();
        assert_eq!((kept.len() as u64, kept.last().copied()), (most, Some(NOW_MS + 9)));
    }
}
