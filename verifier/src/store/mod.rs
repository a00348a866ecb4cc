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

use quotary_common::id::{Digest, HostId};
use quotary_common::limits::LEAF_BYTES_MAX;

/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Largest value in bytes: the largest evidence fits several times.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Most rows or leaves that one read returns.
pub const READ_ROWS_MAX: usize = 10_000;
/// Most bytes of values or leaves that one read gathers before it stops (it returns at least one row).
pub const READ_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A table, named by the room that owns it: `Table::new("hosts")`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(&'static str);

impl Table {
    /// Names a table.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }
    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// A host shard: the first byte of the ids of the hosts in it. Later each verifier owns some of the 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// The shard that a host belongs to.
    pub const fn of(host: &HostId) -> Self {
        Self(host.as_bytes()[0])
    }
    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// What a row belongs to: partitions move between verifiers as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Partition {
    /// The deployment as a whole.
    Deployment,
    /// The hosts of one shard.
    Host(Shard),
}

impl Partition {
    /// The partition of a host's records.
    pub const fn of_host(host: &HostId) -> Self {
        Self::Host(Shard::of(host))
    }
    /// Its number in storage: `-1` for the deployment, else the shard's.
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Deployment => -1,
            Self::Host(Shard(number)) => number as i64,
        }
    }
    /// The partition of a number in storage.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        if number == -1 { Some(Self::Deployment) } else { u8::try_from(number).ok().map(|n| Self::Host(Shard(n))) }
    }
}

/// One row to write: it replaces the value under the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The table.
    pub table: Table,
    /// The partition.
    pub partition: Partition,
    /// The key, at most [`KEY_BYTES_MAX`] bytes, any bytes.
    pub key: Vec<u8>,
    /// The value, at most [`VALUE_BYTES_MAX`] bytes.
    pub value: Vec<u8>,
}

/// One row to remove; that it is not there is no fault (a precondition says if it must be).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The table.
    pub table: Table,
    /// The partition.
    pub partition: Partition,
    /// The key.
    pub key: Vec<u8>,
}

/// What a row must be for a batch to go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Not there.
    Absent,
    /// There, with whatever value.
    Present,
    /// There, with the value of this SHA-256.
    Value(Digest),
}

impl Expect {
    /// There, with exactly this value.
    pub fn value(value: &[u8]) -> Self {
        Self::Value(Digest::of(&[value]))
    }
    /// Whether what was found is what is expected.
    pub(crate) fn holds(&self, found: Option<&[u8]>) -> bool {
        match (self, found) {
            (Self::Absent, found) => found.is_none(),
            (Self::Present, found) => found.is_some(),
            (Self::Value(digest), Some(value)) => Digest::of(&[value]) == *digest,
            (Self::Value(_), None) => false,
        }
    }
}

/// A row that must be as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// The table.
    pub table: Table,
    /// The partition.
    pub partition: Partition,
    /// The key.
    pub key: Vec<u8>,
    /// What it must be.
    pub expect: Expect,
}

/// What goes through whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Rows to write; of two with one key the later stands.
    pub puts: Vec<Put>,
    /// Rows to remove, before the puts.
    pub deletes: Vec<Delete>,
    /// What must hold first.
    pub preconditions: Vec<Precondition>,
    /// Leaves to append, canonical bytes, 1..=[`LEAF_BYTES_MAX`] each.
    pub leaves: Vec<Vec<u8>>,
}

impl Batch {
    /// Adds a row to write.
    #[must_use]
    pub fn put(mut self, table: Table, partition: Partition, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.puts.push(Put { table, partition, key: key.into(), value: value.into() });
        self
    }
    /// Adds a row to remove.
    #[must_use]
    pub fn delete(mut self, table: Table, partition: Partition, key: impl Into<Vec<u8>>) -> Self {
        self.deletes.push(Delete { table, partition, key: key.into() });
        self
    }
    /// Adds a precondition.
    #[must_use]
    pub fn expect(mut self, table: Table, partition: Partition, key: impl Into<Vec<u8>>, expect: Expect) -> Self {
        self.preconditions.push(Precondition { table, partition, key: key.into(), expect });
        self
    }
    /// Adds a leaf.
    #[must_use]
    pub fn leaf(mut self, bytes: Vec<u8>) -> Self {
        self.leaves.push(bytes);
        self
    }

    /// Refuses what is larger than the store takes, before anything is written.
    pub(crate) fn check_bounds(&self) -> Result<(), Conflict> {
        let keys = (self.puts.iter().map(|p| &p.key))
            .chain(self.deletes.iter().map(|d| &d.key))
            .chain(self.preconditions.iter().map(|p| &p.key));
        for key in keys {
            within("key", key.len(), 0, KEY_BYTES_MAX)?;
        }
        for put in &self.puts {
            within("value", put.value.len(), 0, VALUE_BYTES_MAX)?;
        }
        for leaf in &self.leaves {
            within("leaf", leaf.len(), 1, LEAF_BYTES_MAX)?;
        }
        Ok(())
    }
}

fn within(what: &'static str, bytes: usize, bytes_min: usize, bytes_max: usize) -> Result<(), Conflict> {
    if (bytes_min..=bytes_max).contains(&bytes) { Ok(()) } else { Err(Conflict::Size { what, bytes, bytes_min, bytes_max }) }
}

/// A batch went through: the numbers of its leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Number of its first leaf (of the next leaf, if it had none).
    pub first_leaf: u64,
    /// How many leaves it had.
    pub leaves: u64,
}

/// A batch was refused, alone: nothing of it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A precondition did not hold.
    #[error("in table `{}` the row that precondition {index} names is not as expected ({:?})", .precondition.table.name(), .precondition.expect)]
    Precondition {
        /// Its place in the batch.
        index: usize,
        /// It.
        precondition: Precondition,
    },
    /// A key, value or leaf has a size that the store does not take.
    #[error("a {what} of {bytes} bytes: between {bytes_min} and {bytes_max} are allowed")]
    Size {
        /// `key`, `value` or `leaf`.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The least allowed.
        bytes_min: usize,
        /// The most allowed.
        bytes_max: usize,
    },
}

/// What became of one batch.
pub type Outcome = Result<Committed, Conflict>;

/// What became of a group of batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// One outcome per batch, in their order.
    pub outcomes: Vec<Outcome>,
    /// The closing batch, if there was one.
    pub closing: Option<Committed>,
}

/// Which rows a scan returns: by partition, then key, ascending.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The table.
    pub table: Table,
    /// One partition, or all.
    pub partition: Option<Partition>,
    /// Only keys that begin with these bytes.
    pub prefix: Vec<u8>,
    /// Only rows after this one: the last row of the page before.
    pub after: Option<(Partition, Vec<u8>)>,
    /// At most this many rows (and never more than [`READ_ROWS_MAX`]).
    pub limit: usize,
}

impl Scan {
    /// All rows of a table, up to [`READ_ROWS_MAX`].
    pub const fn all(table: Table) -> Self {
        Self { table, partition: None, prefix: Vec::new(), after: None, limit: READ_ROWS_MAX }
    }
    /// Only one partition.
    #[must_use]
    pub const fn partition(mut self, partition: Partition) -> Self {
        self.partition = Some(partition);
        self
    }
    /// Only keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Vec<u8>>) -> Self {
        self.prefix = prefix.into();
        self
    }
    /// Only rows after `row`.
    #[must_use]
    pub fn after(mut self, row: &Row) -> Self {
        self.after = Some((row.partition, row.key.clone()));
        self
    }
    /// At most `limit` rows.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// A row that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The partition.
    pub partition: Partition,
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

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

/// The storage failed, or may not be used. Nothing of the call took effect.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory could not be used.
    #[error("cannot {step} {}", .path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another process writes there.
    #[error("the data directory {} is in use by another process: stop the other verifier first", .path.display())]
    InUse {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// Not a file of ours.
    #[error("{} is not a Quotary store (application id {found:#010x}): point the configuration at another data directory", .path.display())]
    Foreign {
        /// The file.
        path: std::path::PathBuf,
        /// The application id that it carries.
        found: i32,
    },
    /// Written by another version.
    #[error("{} has schema version {found}, this program knows {known}: run the version that wrote it, or migrate", .path.display())]
    Schema {
        /// The file.
        path: std::path::PathBuf,
        /// Its version.
        found: i32,
        /// Ours.
        known: i32,
    },
    /// The check on opening found damage.
    #[error("{} is damaged ({finding}): restore it from a backup", .path.display())]
    Damaged {
        /// The file.
        path: std::path::PathBuf,
        /// The first thing that was found.
        finding: String,
    },
    /// A statement failed.
    #[error("the store failed to {step}")]
    Sqlite {
        /// What was tried.
        step: &'static str,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// The closing batch was refused, and the group with it.
    #[error("the group's closing batch was refused: nothing was committed")]
    Closing(#[source] Conflict),
    /// A number that no row of ours can carry.
    #[error("the store holds {what} {number}, which cannot be: restore it from a backup")]
    Number {
        /// What it should be.
        what: &'static str,
        /// What stands there.
        number: i64,
    },
}
