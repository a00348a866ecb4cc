//! What is read: scans and their rows.

use super::batch::{Partition, Table};
use super::{READ_BYTES_MAX, READ_ROWS_MAX};

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

impl Scan {
    /// How many rows it may return at most.
    pub(super) fn rows_max(&self) -> usize {
        self.limit.min(READ_ROWS_MAX)
    }
    /// The first key that a row of `partition` may have, and the first that it may no longer have.
    pub(super) fn key_range(&self, partition: Partition) -> (Vec<u8>, Option<Vec<u8>>) {
        let after = match &self.after {
            // The key that follows `key` in byte order is `key ‖ 0`.
            Some((last, key)) if *last == partition => [key.as_slice(), &[0]].concat(),
            _ => Vec::new(),
        };
        (after.max(self.prefix.clone()), end_of_prefix(&self.prefix))
    }
    /// The first partition that may have rows.
    pub(super) fn first_partition(&self) -> Partition {
        self.after.as_ref().map_or(Partition::Deployment, |(partition, _)| *partition)
    }
}

/// The first key after all that begin with `prefix`; `None` if there is none such.
fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

/// Counts the bytes that a read gathers.
pub(super) struct Budget {
    bytes_left: usize,
}

impl Budget {
    pub(super) const fn new() -> Self {
        Self { bytes_left: READ_BYTES_MAX }
    }
    /// Takes what a row needs; says whether the read may go on after it.
    pub(super) const fn take(&mut self, bytes: usize) -> bool {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.bytes_left > 0
    }
}
