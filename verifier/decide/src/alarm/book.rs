//! The alarms that are kept: by time, each host and each sum with a share of its own, so that one that alarms all day puts out nobody else's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use quotary_common::id::HostId;

use super::{AlarmRecord, Place};

/// Alarms that are kept at most, of all together: the oldest go first.
pub const ALARMS_MAX: usize = 16_384;
/// Alarms that are kept at most of one host with its applications, or of one sum: the oldest go first.
pub const ALARMS_OF_ONE_MAX: usize = 256;

/// Whose share an alarm takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Owner {
    Host(HostId),
    Sum(String),
}

impl Owner {
    fn of(alarm: &AlarmRecord) -> Self {
        match alarm.place() {
            Place::Host(host) | Place::Gauges(host, _) => Self::Host(host),
            Place::Sum(name) => Self::Sum(name),
        }
    }
}

/// Alarms by their keys, which are in the order of time.
#[derive(Debug, Clone, Default)]
pub struct AlarmBook {
    all: BTreeMap<Vec<u8>, Arc<AlarmRecord>>,
    of: HashMap<Owner, BTreeSet<Vec<u8>>>,
}

impl AlarmBook {
    /// Puts an alarm in, or in the place of what was known of it.
    pub fn put(&mut self, key: Vec<u8>, alarm: Arc<AlarmRecord>) {
        self.of.entry(Owner::of(&alarm)).or_default().insert(key.clone());
        self.all.insert(key, alarm);
    }

    /// One alarm.
    pub fn get(&self, key: &[u8]) -> Option<&Arc<AlarmRecord>> {
        self.all.get(key)
    }

    /// Takes one out.
    pub fn remove(&mut self, key: &[u8]) {
        let Some(alarm) = self.all.remove(key) else { return };
        let owner = Owner::of(&alarm);
        if let Some(keys) = self.of.get_mut(&owner) {
            keys.remove(key);
            if keys.is_empty() {
                self.of.remove(&owner);
            }
        }
    }

    /// Lets go of what is beyond its owner's share, beyond what is kept in all, or was told before `oldest_ms` (Unix time). Gives their keys.
    pub fn let_go(&mut self, oldest_ms: u64) -> Vec<Vec<u8>> {
        let beyond_share = |keys: &BTreeSet<Vec<u8>>| -> Vec<Vec<u8>> {
            keys.iter().take(keys.len().saturating_sub(ALARMS_OF_ONE_MAX)).cloned().collect()
        };
        let mut gone: Vec<Vec<u8>> = self.of.values().flat_map(beyond_share).collect();
        for key in &gone {
            self.remove(key);
        }
        while let Some((key, alarm)) = self.all.first_key_value() {
            if self.all.len() <= ALARMS_MAX && alarm.told_at_ms() >= oldest_ms {
                break;
            }
            let key = key.clone();
            self.remove(&key);
            gone.push(key);
        }
        gone
    }

    /// All of them with their keys, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Vec<u8>, &Arc<AlarmRecord>)> {
        self.all.iter()
    }

    /// Those of one host and its applications, the newest first.
    pub fn of_host(&self, host: &HostId) -> impl Iterator<Item = &Arc<AlarmRecord>> {
        let keys = self.of.get(&Owner::Host(*host)).into_iter().flatten().rev();
        keys.filter_map(|key| self.all.get(key))
    }
}

#[cfg(test)]
mod tests {
    use quotary_common::anomaly::Anomaly;
    use quotary_common::cbor::{Bounded, Text};
    use quotary_common::id::Digest;

    use super::*;

    fn alarm(place: Result<u8, &str>, at_ms: u64) -> AlarmRecord {
        let host = place.ok().map(|n| HostId::of(&[&[n]]));
        let sum = place.err().map(Text::lossy);
        let findings = Bounded::default();
        let anomaly = Anomaly { host, sum, at_ms, continues: false, findings, beyond: 0, input: Digest::of(&[]) };
        AlarmRecord::of(None, &anomaly, at_ms)
    }

    fn put(book: &mut AlarmBook, place: Result<u8, &str>, at_ms: u64) {
        let alarm = alarm(place, at_ms);
        book.put(alarm.key(), Arc::new(alarm));
    }

    #[test]
    fn one_host_that_alarms_all_day_puts_out_its_own_alone() {
        let mut book = AlarmBook::default();
        put(&mut book, Ok(1), 1);
        put(&mut book, Err("pool:lab"), 2);
        for at_ms in 10..10 + 2 * ALARMS_OF_ONE_MAX as u64 {
            put(&mut book, Ok(2), at_ms);
        }
        let gone = book.let_go(0);
        assert_eq!(gone.len(), ALARMS_OF_ONE_MAX);
        assert_eq!(book.of_host(&HostId::of(&[&[1]])).count(), 1);
        let kept: Vec<u64> = book.of_host(&HostId::of(&[&[2]])).map(|alarm| alarm.at_ms()).collect();
        assert_eq!((kept.len(), kept[0]), (ALARMS_OF_ONE_MAX, 9 + 2 * ALARMS_OF_ONE_MAX as u64), "the newest stay");
        assert_eq!(book.iter().count(), ALARMS_OF_ONE_MAX + 2);
        assert_eq!(book.let_go(3).len(), 2, "what is too old goes, whoever's it is");
    }

    #[test]
    fn of_all_together_the_oldest_go() {
        let mut book = AlarmBook::default();
        for n in 0..=ALARMS_MAX as u64 {
            put(&mut book, Err(&format!("tenant:{}", n % 100)), 1_000 + n);
        }
        let gone = book.let_go(0);
        assert_eq!((gone.len(), book.iter().next().map(|(_, alarm)| alarm.at_ms())), (1, Some(1_001)));
    }
}
