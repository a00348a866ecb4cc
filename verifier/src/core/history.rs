//! Letting go of metric history that is older than it is kept.

use super::state::{State, Step};
use super::tables;
use crate::store::{Partition, Reader, Scan, StoreError};

/// Rows that are looked at for each commit of new ones: more than come in, so that the whole table has its turn.
const SWEPT: usize = 32;

/// What a look at some rows came to.
struct Swept {
    /// Rows that are too old.
    old: Vec<(Partition, Vec<u8>)>,
    /// The last that was looked at; none when the next look begins anew.
    next: Option<(Partition, Vec<u8>)>,
}

/// Looks at the next rows of the table.
fn sweep(store: &dyn Reader, after: Option<(Partition, Vec<u8>)>, oldest_ms: u64) -> Result<Swept, StoreError> {
    let mut scan = Scan::all(tables::HISTORY).limit(SWEPT);
    scan.after = after;
    let rows = store.scan(&scan)?;
    let next = rows.last().filter(|_| rows.len() == SWEPT).map(|row| (row.partition, row.key.clone()));
    let is_old = |key: &[u8]| tables::history_made_at_ms(key).is_none_or(|made_at_ms| made_at_ms < oldest_ms);
    let old = rows.into_iter().filter(|row| is_old(&row.key)).map(|row| (row.partition, row.key)).collect();
    Ok(Swept { old, next })
}

impl State {
    /// Looks at the next rows of the table, and deletes those that are too old.
    pub(super) fn sweep_history(&mut self, step: &mut Step, store: &dyn Reader, now_ms: u64) {
        let oldest_ms = now_ms.saturating_sub(self.settings.history_keep_ms);
        match sweep(store, self.history_swept.take(), oldest_ms) {
            Ok(swept) => {
                self.history_swept = swept.next;
                for (partition, key) in swept.old {
                    step.delete(tables::HISTORY, partition, key);
                }
            }
            Err(error) => tracing::warn!(%error, "old history could not be let go"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use quotary_common::id::HostId;

    use super::*;
    use crate::store::{Batch, MemoryStore, Store as _};

    const NOW_MS: u64 = 1_700_000_000_000;

    fn swept(store: &MemoryStore, after: Option<(Partition, Vec<u8>)>) -> Swept {
        sweep(store, after, NOW_MS - 1_000_000).unwrap()
    }

    #[test]
    fn every_row_has_its_turn_and_only_old_ones_go() {
        let mut store = MemoryStore::default();
        let hosts: Vec<HostId> = (0..5_u8).map(|n| HostId::of(&[&[n]])).collect();
        let mut batch = Batch::default();
        for host in hosts.iter().map(Some).chain([None]) {
            let (partition, _) = tables::history_prefix(host);
            for age_ms in (0..20).map(|n| n * 100_000) {
                batch = batch.put(tables::HISTORY, partition, tables::history_key(host, NOW_MS - age_ms, 0), [1]);
            }
        }
        store.commit(&[batch]).unwrap();
        let (mut after, mut rounds) = (None, 0);
        loop {
            let Swept { old, next } = swept(&store, after);
            let batch = old.into_iter().fold(Batch::default(), |batch, (partition, key)| {
                assert!(tables::history_made_at_ms(&key).unwrap() < NOW_MS - 1_000_000);
                batch.delete(tables::HISTORY, partition, key)
            });
            store.commit(&[batch]).unwrap();
            (after, rounds) = (next, rounds + 1);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(rounds, 4, "120 rows, 32 at a time");
        let left = store.scan(&Scan::all(tables::HISTORY)).unwrap();
        assert_eq!(left.len(), 6 * 11);
        assert!(tables::history_made_at_ms(b"short").is_none());
    }
}
