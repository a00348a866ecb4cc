//! Reads the working state back from the store at the start.

use std::collections::BTreeMap;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use quotary_common::cbor::{self, Bounded, CborError};
use quotary_common::envelope::Name;
use quotary_common::evidence::PcrValue;
use quotary_common::id::{ChangeId, HostId};
use quotary_common::limits::{PCR_BANKS_MAX, PCR_COUNT};
use quotary_decide::alarm::{AlarmBook, AlarmRecord};
use quotary_decide::allocate::{Book, GrantRecord};
use quotary_decide::attest::LearnedReferences;
use quotary_decide::change::{self, Governing};
use quotary_decide::history::{BoundedLoad, Bounds};
use quotary_decide::observe::Observed;
use quotary_decide::policy::{Runs, runs_of};
use quotary_decide::registry::{Host, HostProgress, HostRecord, RefusalMeter, TokenRecord};
use quotary_decide::shape::{PlanBook, PlanRecord};

use super::plans::Reply;
use super::state::{Settings, State};
use super::tables;
use crate::predict::ModelSet;
use crate::store::{Partition, READ_ROWS_MAX, Reader, Row, Scan, StoreError, Table, VALUE_BYTES_MAX};

/// A refused request is told once per host and reason in so many ms.
const REQUEST_LEAF_INTERVAL_MS: u64 = 10_000;

/// State that cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store failed.
    #[error("the store cannot be read")]
    Store(#[source] StoreError),
    /// A row does not hold its form.
    #[error("a row of table `{table}` does not hold its form: restore the store from a backup")]
    Row {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: CborError,
    },
    /// A row stands under a key that is none.
    #[error("a row of table `{table}` stands under a key that is none: restore the store from a backup")]
    Key {
        /// The table.
        table: &'static str,
    },
    /// What is kept of who decides about changes.
    #[error("who decides about changes cannot be read back: restore the store from a backup")]
    Governing(#[source] change::GoverningFault),
    /// A change or a policy.
    #[error("a change or a policy cannot be read back: restore the store from a backup")]
    Change(#[source] change::RowFault),
    /// A host's keys are unusable.
    #[error("a host cannot be loaded")]
    Host(#[source] quotary_decide::registry::LoadError),
}

/// The working state as of the last commit; grants hold their capacity for one longest lease from `now_ms` on,
/// for what was granted by a later state that a restore may have lost (design §7).
///
/// # Errors
/// [`LoadError`] naming the table.
pub fn load(settings: Arc<Settings>, store: &dyn Reader, now_ms: u64) -> Result<State, LoadError> {
    let mut state = State {
        settings,
        hosts: BTreeMap::new(),
        replies: BTreeMap::new(),
        plans: PlanBook::default(),
        observed: BTreeMap::new(),
        runs: BTreeMap::new(),
        changes: change::Book::default(),
        tokens: BTreeMap::new(),
        book: Book::default(),
        learned: BTreeMap::new(),
        alarms: AlarmBook::default(),
        judged_until_ms: None,
        models: ModelSet::default(),
        history_swept: None,
        requests_refused: RefusalMeter::new(REQUEST_LEAF_INTERVAL_MS),
    };
    let mut progress = BTreeMap::new();
    each(store, tables::PROGRESS, |row| {
        let id = HostId::new(row.key.as_slice().try_into().map_err(|_| key(tables::PROGRESS))?);
        progress.insert(id, decode::<HostProgress>(tables::PROGRESS, &row.value)?);
        Ok(())
    })?;
    each(store, tables::HOSTS, |row| {
        let record: HostRecord = decode(tables::HOSTS, &row.value)?;
        let progress = progress.remove(&record.host).ok_or_else(|| key(tables::PROGRESS))?;
        let host = Host::new(record, progress, &state.settings.admission).map_err(LoadError::Host)?;
        state.book.set_capacity(host.record.host, host.record.capacity);
        state.hosts.insert(host.record.host, host);
        Ok(())
    })?;
    each(store, tables::PLANS, |row| {
        let record = PlanRecord::from_bytes(&row.value, VALUE_BYTES_MAX);
        state.plans.put(record.map_err(|source| LoadError::Row { table: tables::PLANS.name(), source })?);
        Ok(())
    })?;
    each(store, tables::REPLIES, |row| {
        let id = HostId::new(row.key.as_slice().try_into().map_err(|_| key(tables::REPLIES))?);
        let reply = Reply::from_row(row.value, &id, &state.plans);
        let reply = reply.map_err(|source| LoadError::Row { table: tables::REPLIES.name(), source })?;
        state.replies.extend(reply.map(|reply| (id, Arc::new(reply))));
        Ok(())
    })?;
    each(store, tables::OBSERVED, |row| {
        let id = HostId::new(row.key.as_slice().try_into().map_err(|_| key(tables::OBSERVED))?);
        let observed = Observed::from_bytes(&row.value, VALUE_BYTES_MAX);
        let observed = observed.map_err(|source| LoadError::Row { table: tables::OBSERVED.name(), source })?;
        state.observed.insert(id, Arc::new(observed));
        Ok(())
    })?;
    each(store, tables::TOKENS, |row| {
        let record: TokenRecord = decode(tables::TOKENS, &row.value)?;
        state.tokens.insert(record.id, record);
        Ok(())
    })?;
    each(store, tables::ANOMALIES, |row| {
        let record: AlarmRecord = decode(tables::ANOMALIES, &row.value)?;
        state.alarms.put(row.key, Arc::new(record));
        Ok(())
    })?;
    each(store, tables::JUDGED, |row| {
        let until_ms = row.value.as_slice().try_into().map_err(|_| key(tables::JUDGED))?;
        state.judged_until_ms = Some(u64::from_be_bytes(until_ms));
        Ok(())
    })?;
    state.learned = learned(store)?;
    state.changes = changes(store)?;
    state.runs = runs_of_last(&state, store)?;
    load_grants(&mut state, store, now_ms)?;
    Ok(state)
}

/// The values that zones have learned.
///
/// # Errors
/// [`LoadError`] naming the table.
pub fn learned(store: &dyn Reader) -> Result<LearnedReferences, LoadError> {
    let mut learned = LearnedReferences::new();
    each(store, tables::ZONES, |row| {
        let name = std::str::from_utf8(&row.key).ok().and_then(Name::new).ok_or_else(|| key(tables::ZONES))?;
        let values: Bounded<PcrValue, { PCR_BANKS_MAX * PCR_COUNT }> = decode(tables::ZONES, &row.value)?;
        learned.insert(name, values.into_vec());
        Ok(())
    })?;
    Ok(learned)
}

/// Who decides.
///
/// # Errors
/// [`LoadError`] naming the table.
pub(crate) fn governing(store: &dyn Reader) -> Result<Option<Governing>, LoadError> {
    let (mut now, mut links) = (None, BTreeMap::new());
    each(store, tables::AUTHORITY, |row| {
        if row.key == tables::AUTHORITY_NOW {
            now = Some(row.value);
        } else {
            links.insert(tables::link_number(&row.key).ok_or_else(|| key(tables::AUTHORITY))?, row.value);
        }
        Ok(())
    })?;
    let governing = now.map(|row| Governing::from_row(&row, links, VALUE_BYTES_MAX));
    governing.transpose().map_err(LoadError::Governing)
}

/// Policies, changes, and who decides.
fn changes(store: &dyn Reader) -> Result<change::Book, LoadError> {
    let mut rows = change::Rows { governing: governing(store)?, ..Default::default() };
    each(store, tables::POLICIES, |row| {
        rows.policies.push(row.value);
        Ok(())
    })?;
    each(store, tables::CHANGES, |row| {
        let id = ChangeId::new(row.key.as_slice().try_into().map_err(|_| key(tables::CHANGES))?);
        rows.changes.insert(id, row.value);
        Ok(())
    })?;
    change::Book::from_rows(rows, VALUE_BYTES_MAX).map_err(LoadError::Change)
}

/// What ran on each host, by the last evidence of it that is kept.
fn runs_of_last(state: &State, store: &dyn Reader) -> Result<BTreeMap<HostId, Arc<[Runs]>>, LoadError> {
    let mut all = BTreeMap::new();
    for (id, host) in &state.hosts {
        let Some(digest) = host.progress.evidence else { continue };
        let kept = store.get(tables::EVIDENCE, Partition::of_host(id), digest.as_bytes()).map_err(LoadError::Store)?;
        let timing = state.settings.timing;
        let bounds = Bounds {
            capacity: host.record.capacity,
            before: None,
            since_ms: host.record.enrolled_at_ms,
            now_ms: host.progress.committed_at_ms,
            window_ms: timing.window_ms,
            wait_ms: timing.lease_ms,
        };
        if let Some(load) = kept.and_then(|bytes| BoundedLoad::kept(&bytes, &bounds)) {
            all.insert(*id, runs_of(&load).into());
        }
    }
    Ok(all)
}

fn load_grants(state: &mut State, store: &dyn Reader, now_ms: u64) -> Result<(), LoadError> {
    let timing = state.settings.timing;
    let hold_ms = timing.lease_ms.saturating_add(timing.lease_margin_ms);
    each(store, tables::GRANTS, |row| {
        let record: GrantRecord = decode(tables::GRANTS, &row.value)?;
        state.book.put(record);
        Ok(())
    })?;
    for (id, host) in &state.hosts {
        state.book.hold_until(id, now_ms.saturating_add(hold_ms).max(host.progress.held_until_ms));
        // Grants of an earlier epoch were revoked: they hold capacity only.
        state.book.fence_older(id, host.progress.epoch);
    }
    Ok(())
}

fn key(table: Table) -> LoadError {
    LoadError::Key { table: table.name() }
}

fn decode<T: for<'b> Decode<'b, ()> + Encode<()>>(table: Table, bytes: &[u8]) -> Result<T, LoadError> {
    cbor::from_bytes(bytes, VALUE_BYTES_MAX).map_err(|source| LoadError::Row { table: table.name(), source })
}

fn each(store: &dyn Reader, table: Table, mut take: impl FnMut(Row) -> Result<(), LoadError>) -> Result<(), LoadError> {
    let mut scan = Scan::all(table).limit(READ_ROWS_MAX);
    loop {
        let rows = store.scan(&scan).map_err(LoadError::Store)?;
        let Some(last) = rows.last() else { return Ok(()) };
        scan = scan.after(last);
        for row in rows {
            take(row)?;
        }
    }
}
