//! A store in memory, for tests of what stands on a store: same behaviour, no durability.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batch::{Batch, Committed, Conflict, Group, Outcome, Partition, Table};
use super::read::{Budget, Row, Scan};
use super::{READ_ROWS_MAX, Reader, Store, StoreError};

type Rows = BTreeMap<(Table, Partition, Vec<u8>), Vec<u8>>;

#[derive(Debug, Clone, Default)]
struct State {
    rows: Rows,
    leaves: Vec<Vec<u8>>,
}

/// A store in memory. Clones share what they hold, so a clone is a reader too.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
    fn state(&self) -> MutexGuard<'_, State> {
        // A commit replaces the whole state at its end: a writer that panicked left the old one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, batch: &Batch) -> Outcome {
        batch.check_bounds()?;
        for (index, precondition) in batch.preconditions.iter().enumerate() {
            let found = self.rows.get(&(precondition.table, precondition.partition, precondition.key.clone()));
            if !precondition.expect.holds(found.map(Vec::as_slice)) {
                return Err(Conflict::Precondition { index, precondition: precondition.clone() });
            }
        }
        for delete in &batch.deletes {
            self.rows.remove(&(delete.table, delete.partition, delete.key.clone()));
        }
        for put in &batch.puts {
            self.rows.insert((put.table, put.partition, put.key.clone()), put.value.clone());
        }
        let first_leaf = self.leaves.len() as u64;
        self.leaves.extend(batch.leaves.iter().cloned());
        Ok(Committed { first_leaf, leaves: batch.leaves.len() as u64 })
    }
}

impl Reader for MemoryStore {
    fn get(&self, table: Table, partition: Partition, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state().rows.get(&(table, partition, key.to_vec())).cloned())
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        let state = self.state();
        let mut budget = Budget::new();
        let mut found = Vec::new();
        for ((table, partition, key), value) in state.rows.range((scan.table, scan.first_partition(), Vec::new())..) {
            if *table != scan.table || found.len() >= scan.rows_max() {
                break;
            }
            let (from, to) = scan.key_range(*partition);
            let inside = *key >= from && to.is_none_or(|to| *key < to);
            if !inside || scan.partition.is_some_and(|wanted| wanted != *partition) {
                continue;
            }
            found.push(Row { partition: *partition, key: key.clone(), value: value.clone() });
            if !budget.take(value.len()) {
                break;
            }
        }
        Ok(found)
    }

    fn leaf(&self, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(usize::try_from(number).ok().and_then(|number| self.state().leaves.get(number).cloned()))
    }

    fn leaves(&self, first: u64, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let state = self.state();
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let mut budget = Budget::new();
        let mut found = Vec::new();
        for leaf in state.leaves.iter().skip(first).take(limit.min(READ_ROWS_MAX)) {
            found.push(leaf.clone());
            if !budget.take(leaf.len()) {
                break;
            }
        }
        Ok(found)
    }

    fn leaf_count(&self) -> Result<u64, StoreError> {
        Ok(self.state().leaves.len() as u64)
    }
}

impl Store for MemoryStore {
    fn commit_group(
        &mut self,
        batches: &[Batch],
        closing: &mut dyn FnMut(&[Outcome]) -> Option<Batch>,
    ) -> Result<Group, StoreError> {
        let mut next = self.state().clone();
        let outcomes: Vec<Outcome> = batches.iter().map(|batch| next.apply(batch)).collect();
        let closing = match closing(&outcomes) {
            Some(batch) => Some(next.apply(&batch).map_err(StoreError::Closing)?),
            None => None,
        };
        *self.state() = next;
        Ok(Group { outcomes, closing })
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        Ok(Box::new(self.clone()))
    }
}
