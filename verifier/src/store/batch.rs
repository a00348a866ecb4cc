//! What is written: tables, partitions, batches and what became of them.

use quotary_common::id::{Digest, HostId};
use quotary_common::limits::LEAF_BYTES_MAX;

use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

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
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Deployment => -1,
            Self::Host(Shard(number)) => number as i64,
        }
    }
    /// The partition of a number in storage.
    pub(super) fn from_number(number: i64) -> Option<Self> {
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
    pub(super) fn holds(&self, found: Option<&[u8]>) -> bool {
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
    pub fn put(
        mut self,
        table: Table,
        partition: Partition,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> Self {
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
    pub(super) fn check_bounds(&self) -> Result<(), Conflict> {
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
    if (bytes_min..=bytes_max).contains(&bytes) {
        Ok(())
    } else {
        Err(Conflict::Size { what, bytes, bytes_min, bytes_max })
    }
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
