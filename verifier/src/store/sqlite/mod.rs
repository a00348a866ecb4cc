//! The embedded store: one SQLite file in WAL mode, every commit synced to the disk before it is acknowledged.
//!
//! The writer holds an exclusive lock on a file beside it for as long as it lives; the kernel drops that lock
//! when the process dies, so nothing stale stays. Readers have connections of their own and see the last
//! commit. A batch writes nothing before all its preconditions held, so refusing it needs no rollback.

mod open;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::batch::{Batch, Committed, Conflict, Group, Outcome, Partition, Table};
use super::read::{Budget, Row, Scan};
use super::{READ_ROWS_MAX, Reader, Store, StoreError};

/// The writer of a data directory.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    database: PathBuf,
    /// Locked while we live.
    _lock: std::fs::File,
}

/// A reader beside the writer, for one thread.
#[derive(Debug)]
pub struct SqliteReader {
    connection: Connection,
}

fn failed(step: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Sqlite { step, source }
}

/// A number of ours as SQLite keeps it: no log of ours reaches 2^63 leaves.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn get(
    connection: &Connection,
    table: Table,
    partition: Partition,
    key: &[u8],
) -> Result<Option<Vec<u8>>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT value FROM row WHERE table_name = ?1 AND partition = ?2 AND key = ?3")?
        .query_row(params![table.name(), partition.number(), key], |row| row.get(0))
        .optional()
}

fn leaf_count(connection: &Connection) -> Result<u64, StoreError> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(number) FROM leaf")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(failed("count the leaves"))?;
    match last {
        None => Ok(0),
        Some(last) => match u64::try_from(last) {
            Ok(last) => Ok(last + 1),
            Err(_) => Err(StoreError::Number { what: "leaf number", number: last }),
        },
    }
}

/// The rows of one partition, appended to `found`; says whether the scan may go on.
fn scan_partition(
    connection: &Connection,
    scan: &Scan,
    partition: Partition,
    budget: &mut Budget,
    found: &mut Vec<Row>,
) -> Result<bool, rusqlite::Error> {
    let (from, to) = scan.key_range(partition);
    let limit = stored((scan.rows_max() - found.len()) as u64);
    let (mut bounded, mut open);
    let mut rows = match to {
        Some(to) => {
            bounded = connection.prepare_cached(
                "SELECT key, value FROM row WHERE table_name = ?1 AND partition = ?2 AND key >= ?3 AND key < ?4 ORDER BY key LIMIT ?5",
            )?;
            bounded.query(params![scan.table.name(), partition.number(), from, to, limit])?
        }
        None => {
            open = connection.prepare_cached(
                "SELECT key, value FROM row WHERE table_name = ?1 AND partition = ?2 AND key >= ?3 ORDER BY key LIMIT ?4",
            )?;
            open.query(params![scan.table.name(), partition.number(), from, limit])?
        }
    };
    while let Some(row) = rows.next()? {
        let row = Row { partition, key: row.get(0)?, value: row.get(1)? };
        let goes_on = budget.take(row.value.len());
        found.push(row);
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(found.len() < scan.rows_max())
}

/// The first partition of a table from `from` on.
fn next_partition(connection: &Connection, table: Table, from: i64) -> Result<Option<Partition>, StoreError> {
    let number: Option<i64> = connection
        .prepare_cached("SELECT min(partition) FROM row WHERE table_name = ?1 AND partition >= ?2")
        .and_then(|mut statement| statement.query_row(params![table.name(), from], |row| row.get(0)))
        .map_err(failed("list partitions"))?;
    match number {
        None => Ok(None),
        Some(number) => match Partition::from_number(number) {
            Some(partition) => Ok(Some(partition)),
            None => Err(StoreError::Number { what: "partition", number }),
        },
    }
}

fn scan(connection: &Connection, scan: &Scan) -> Result<Vec<Row>, StoreError> {
    // One read transaction: all statements see the same commit.
    let snapshot = connection.unchecked_transaction().map_err(failed("begin reading"))?;
    let mut budget = Budget::new();
    let mut found = Vec::new();
    if scan.rows_max() == 0 {
        return Ok(found);
    }
    let mut from = scan.first_partition().number();
    while let Some(partition) = match scan.partition {
        Some(only) => (only.number() >= from).then_some(only),
        None => next_partition(&snapshot, scan.table, from)?,
    } {
        if !scan_partition(&snapshot, scan, partition, &mut budget, &mut found).map_err(failed("scan a table"))? {
            break;
        }
        from = partition.number() + 1;
    }
    Ok(found)
}

fn leaf(connection: &Connection, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
    connection
        .prepare_cached("SELECT bytes FROM leaf WHERE number = ?1")
        .and_then(|mut statement| statement.query_row([stored(number)], |row| row.get(0)).optional())
        .map_err(failed("read a leaf"))
}

fn leaves(connection: &Connection, first: u64, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
    let read = || -> Result<Vec<Vec<u8>>, rusqlite::Error> {
        let mut statement =
            connection.prepare_cached("SELECT bytes FROM leaf WHERE number >= ?1 ORDER BY number LIMIT ?2")?;
        let mut rows = statement.query([stored(first), stored(limit.min(READ_ROWS_MAX) as u64)])?;
        let mut budget = Budget::new();
        let mut found: Vec<Vec<u8>> = Vec::new();
        while let Some(row) = rows.next()? {
            let leaf: Vec<u8> = row.get(0)?;
            let goes_on = budget.take(leaf.len());
            found.push(leaf);
            if !goes_on {
                break;
            }
        }
        Ok(found)
    };
    read().map_err(failed("read leaves"))
}

/// Writes one batch into the open transaction, or refuses it before anything of it is written.
fn apply(transaction: &Transaction<'_>, batch: &Batch, next_leaf: u64) -> Result<Outcome, rusqlite::Error> {
    if let Err(conflict) = batch.check_bounds() {
        return Ok(Err(conflict));
    }
    for (index, precondition) in batch.preconditions.iter().enumerate() {
        let found = get(transaction, precondition.table, precondition.partition, &precondition.key)?;
        if !precondition.expect.holds(found.as_deref()) {
            return Ok(Err(Conflict::Precondition { index, precondition: precondition.clone() }));
        }
    }
    for delete in &batch.deletes {
        transaction
            .prepare_cached("DELETE FROM row WHERE table_name = ?1 AND partition = ?2 AND key = ?3")?
            .execute(params![delete.table.name(), delete.partition.number(), delete.key])?;
    }
    for put in &batch.puts {
        transaction
            .prepare_cached(
                "INSERT INTO row (table_name, partition, key, value) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (table_name, partition, key) DO UPDATE SET value = excluded.value",
            )?
            .execute(params![put.table.name(), put.partition.number(), put.key, put.value])?;
    }
    let mut number = next_leaf;
    for leaf in &batch.leaves {
        transaction
            .prepare_cached("INSERT INTO leaf (number, bytes) VALUES (?1, ?2)")?
            .execute(params![stored(number), leaf])?;
        number += 1;
    }
    Ok(Ok(Committed { first_leaf: next_leaf, leaves: number - next_leaf }))
}

impl Store for SqliteStore {
    fn commit_group(
        &mut self,
        batches: &[Batch],
        closing: &mut dyn FnMut(&[Outcome]) -> Option<Batch>,
    ) -> Result<Group, StoreError> {
        // Dropped without commit, the transaction rolls back.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed("begin a transaction"))?;
        let mut next_leaf = leaf_count(&transaction)?;
        let mut outcomes = Vec::with_capacity(batches.len());
        for batch in batches {
            let outcome = apply(&transaction, batch, next_leaf).map_err(failed("write a batch"))?;
            next_leaf += outcome.as_ref().map_or(0, |committed| committed.leaves);
            outcomes.push(outcome);
        }
        let closing = match closing(&outcomes) {
            Some(batch) => Some(
                apply(&transaction, &batch, next_leaf)
                    .map_err(failed("write the closing batch"))?
                    .map_err(StoreError::Closing)?,
            ),
            None => None,
        };
        transaction.commit().map_err(failed("commit a group"))?;
        Ok(Group { outcomes, closing })
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        Ok(Box::new(SqliteReader { connection: open::reader(&self.database)? }))
    }
}

macro_rules! reads {
    ($type:ty) => {
        impl Reader for $type {
            fn get(&self, table: Table, partition: Partition, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
                get(&self.connection, table, partition, key).map_err(failed("read a row"))
            }
            fn scan(&self, wanted: &Scan) -> Result<Vec<Row>, StoreError> {
                scan(&self.connection, wanted)
            }
            fn leaf(&self, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
                leaf(&self.connection, number)
            }
            fn leaves(&self, first: u64, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
                leaves(&self.connection, first, limit)
            }
            fn leaf_count(&self) -> Result<u64, StoreError> {
                leaf_count(&self.connection)
            }
        }
    };
}
reads!(SqliteStore);
reads!(SqliteReader);
