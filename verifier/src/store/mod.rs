//! The store: one durable place for the records of every room and for the leaves of the audit log.
//!
//! Does: commits groups of [`Batch`]es in one durable transaction, state and leaves together; answers reads.
//! May assume: one writer per data directory (a second one is refused); rooms own the form of their values.
//! Promises: what [`Store::commit`] acknowledged survives a crash; a batch goes through whole or not at all;
//! a batch that is refused takes no other with it; leaves are numbered from 0 without gaps, in the order of
//! their batches; a reader never blocks the writer.
//! Must never: know a room's records; lose, reorder or change a leaf; reply before the disk has it.
//!
//! Within a batch all preconditions are checked first, against the state that the batches before it left
//! behind; then deletes are applied, then puts, then leaves are appended. Evidence blobs are ordinary puts
//! (table `evidence`, key = digest).

mod batch;
#[cfg(test)]
mod conformance;
mod error;
mod memory;
mod read;
mod sqlite;

pub use batch::{
    Batch, Committed, Conflict, Delete, Expect, Group, Outcome, Partition, Precondition, Put, Shard, Table,
};
pub use error::StoreError;
pub use memory::MemoryStore;
pub use read::{Row, Scan};
pub use sqlite::{SqliteReader, SqliteStore};

/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Largest value in bytes: the largest evidence fits several times.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Most rows or leaves that one read returns.
pub const READ_ROWS_MAX: usize = 10_000;
/// Most bytes of values or leaves that one read gathers before it stops (it returns at least one row).
pub const READ_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Reads. Each call sees what was committed when it began.
pub trait Reader: Send {
    /// The value under a key.
    ///
    /// # Errors
    /// [`StoreError`] when the storage fails.
    fn get(&self, table: Table, partition: Partition, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// The rows of a scan, by partition, then key; the last page is the empty one.
    ///
    /// # Errors
    /// [`StoreError`] when the storage fails.
    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError>;
    /// The bytes of leaf `number`.
    ///
    /// # Errors
    /// [`StoreError`] when the storage fails.
    fn leaf(&self, number: u64) -> Result<Option<Vec<u8>>, StoreError>;
    /// Leaves from `first` on, at most `limit` (and [`READ_ROWS_MAX`], and [`READ_BYTES_MAX`] bytes), without gaps.
    ///
    /// # Errors
    /// [`StoreError`] when the storage fails.
    fn leaves(&self, first: u64, limit: usize) -> Result<Vec<Vec<u8>>, StoreError>;
    /// How many leaves there are.
    ///
    /// # Errors
    /// [`StoreError`] when the storage fails.
    fn leaf_count(&self) -> Result<u64, StoreError>;
}

/// Writes; there is one writer.
pub trait Store: Reader {
    /// Commits a group in one durable transaction. When all batches have had their turn, `closing` sees the
    /// outcomes and may add one batch more to the same transaction (the shared leaf of what went through).
    ///
    /// # Errors
    /// [`StoreError`]: nothing of the group was committed. A closing batch that is refused is such an error.
    fn commit_group(
        &mut self,
        batches: &[Batch],
        closing: &mut dyn FnMut(&[Outcome]) -> Option<Batch>,
    ) -> Result<Group, StoreError>;

    /// Commits a group in one durable transaction.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of the group was committed.
    fn commit(&mut self, batches: &[Batch]) -> Result<Vec<Outcome>, StoreError> {
        Ok(self.commit_group(batches, &mut |_| None)?.outcomes)
    }

    /// A reader of its own, for another thread: it does not wait for the writer, nor the writer for it.
    ///
    /// # Errors
    /// [`StoreError`] when the storage cannot be opened once more.
    fn reader(&self) -> Result<Box<dyn Reader>, StoreError>;
}
