//! The read model: all that readers may see, replaced host by host after each commit.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use quotary_common::envelope::WitnessedCheckpoint;
use quotary_common::id::{Digest, HostId, TokenId};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire;
use quotary_decide::allocate::Entry;
use quotary_decide::change;
use quotary_decide::observe::Observed;
use quotary_decide::policy::Runs;
use quotary_decide::registry::{Host, RefusalMeter, Tally, TokenRecord};
use quotary_decide::shape::PlanRecord;

use super::anomalies::AlarmList;
use super::plans::Reply;

/// A host as it was committed.
#[derive(Debug)]
pub struct HostSnapshot {
    /// The host.
    pub host: Host,
    /// Its grants that hold capacity.
    pub grants: Vec<Entry>,
    /// Until when they do without further evidence, Unix ms.
    pub held_until_ms: u64,
    /// Its last reply.
    pub reply: Option<Arc<Reply>>,
    /// Its shaping plans, those that are over too.
    pub plans: Vec<Arc<PlanRecord>>,
    /// What runs on it, by its last accepted evidence.
    pub runs: Arc<[Runs]>,
    /// What limits would have done, where it only watches.
    pub observed: Arc<Observed>,
    /// Counts since the start.
    pub tally: Arc<HostTally>,
}

/// Counts of one host since the start.
#[derive(Debug, Default)]
pub struct HostTally {
    /// Accepted evidence.
    pub accepted: AtomicU64,
    /// Refused evidence.
    pub refused: AtomicU64,
    last_refusal: Mutex<Option<wire::Error>>,
    appraisal: Mutex<Option<wire::AppraisalView>>,
    out_of_order: Mutex<Vec<u64>>,
    in_hand: AtomicU64,
}

/// Evidence of one host that is looked at at once: one, and a retry that overtakes it.
const IN_HAND_MAX: u64 = 2;

/// A host's place among what is looked at; given back when it goes.
#[derive(Debug)]
pub struct Place(Arc<HostTally>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_hand.fetch_sub(1, Ordering::AcqRel);
    }
}

impl HostTally {
    /// Why the last evidence was refused, if none was accepted since.
    pub fn last_refusal(&self) -> Option<wire::Error> {
        self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn set_last_refusal(&self, error: Option<wire::Error>) {
        *self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
    /// How the host stood in each zone by its last evidence, accepted or not.
    pub fn appraisal(&self) -> Option<wire::AppraisalView> {
        self.appraisal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// A place for one evidence, if the host has one left: nobody fills the queue alone.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        let entered = self.in_hand.fetch_add(1, Ordering::AcqRel);
        let place = Place(Arc::clone(self));
        (entered < IN_HAND_MAX).then_some(place)
    }
    /// Whether evidence out of order may cost a signature check now: four in a minute (wire.md, question 3).
    pub fn may_check_out_of_order(&self, now_ms: u64) -> bool {
        let mut checked = self.out_of_order.lock().unwrap_or_else(PoisonError::into_inner);
        checked.retain(|at| now_ms.saturating_sub(*at) < 60_000);
        let may = checked.len() < 4;
        if may {
            checked.push(now_ms);
        }
        may
    }
}

/// All that readers may see.
#[derive(Debug)]
pub struct View {
    hosts: RwLock<HashMap<HostId, Arc<HostSnapshot>>>,
    /// Enrolled TLS keys.
    keys: RwLock<HashSet<Digest>>,
    tokens: RwLock<HashMap<TokenId, TokenRecord>>,
    /// Alarms.
    pub alarms: AlarmList,
    changes: RwLock<Arc<change::Book>>,
    meter: Mutex<RefusalMeter>,
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// One leaf per kind of refusal and host in so many ms; the rest is counted.
const REFUSAL_LEAF_INTERVAL_MS: u64 = 10_000;

impl Default for View {
    fn default() -> Self {
        Self {
            hosts: RwLock::default(),
            keys: RwLock::default(),
            tokens: RwLock::default(),
            alarms: AlarmList::default(),
            changes: RwLock::default(),
            meter: Mutex::new(RefusalMeter::new(REFUSAL_LEAF_INTERVAL_MS)),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl View {
    /// One host.
    pub fn host(&self, id: &HostId) -> Option<Arc<HostSnapshot>> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
    /// The host of this short form or hexadecimal text.
    pub fn host_named(&self, text: &str) -> Option<Arc<HostSnapshot>> {
        if let Ok(id) = text.parse::<HostId>() {
            return self.host(&id);
        }
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().find(|(id, _)| id.is_named(text)).map(|(_, snapshot)| Arc::clone(snapshot))
    }
    /// All hosts, by id.
    pub fn hosts(&self) -> Vec<Arc<HostSnapshot>> {
        let mut all: Vec<_> = self.hosts.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        all.sort_by_key(|snapshot| snapshot.host.record.host);
        all
    }
    /// Policies, changes, and who decides.
    pub fn changes(&self) -> Arc<change::Book> {
        Arc::clone(&self.changes.read().unwrap_or_else(PoisonError::into_inner))
    }
    pub(super) fn publish_changes(&self, book: change::Book) {
        *self.changes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
    }
    /// One token.
    pub fn token(&self, id: &TokenId) -> Option<TokenRecord> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
    /// Replaces a host's snapshot.
    pub(super) fn publish(&self, snapshot: HostSnapshot) {
        let (id, key) = (snapshot.host.record.host, snapshot.host.record.tls_key);
        let old = self.hosts.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(snapshot));
        let old = old.map(|old| old.host.record.tls_key);
        if old != Some(key) {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            keys.insert(key);
            if let Some(old) = old {
                keys.remove(&old);
            }
        }
    }
    /// Whether a host is enrolled with this TLS key.
    pub fn is_enrolled(&self, tls_key: &Digest) -> bool {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).contains(tls_key)
    }
    /// Replaces a token, or removes it.
    pub(super) fn publish_token(&self, id: TokenId, record: Option<TokenRecord>) {
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        match record {
            Some(record) => tokens.insert(id, record),
            None => tokens.remove(&id),
        };
    }
    /// Counts an acceptance.
    pub(super) fn count_accepted(&self, id: &HostId) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if let Some(snapshot) = self.host(id) {
            snapshot.tally.accepted.fetch_add(1, Ordering::Relaxed);
            snapshot.tally.set_last_refusal(None);
        }
    }
    /// Keeps how a host stands in each zone.
    pub(super) fn explain(&self, id: &HostId, appraisal: wire::AppraisalView) {
        if let Some(snapshot) = self.host(id) {
            *snapshot.tally.appraisal.lock().unwrap_or_else(PoisonError::into_inner) = Some(appraisal);
        }
    }
    /// Notes a refused evidence against its host: for one whose leaf is written anyway.
    pub fn note_refused(&self, host: Option<&HostId>, refusal: &Refusal) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        // Who does not hold the host's key must not colour the host's state.
        let colours = !matches!(refusal.reason, Reason::TlsKey | Reason::Unauthorised);
        if let Some(snapshot) = host.filter(|_| colours).and_then(|id| self.host(id)) {
            snapshot.tally.refused.fetch_add(1, Ordering::Relaxed);
            snapshot.tally.set_last_refusal(Some(refusal.into()));
        }
    }
    /// Counts a refusal; `Some` when its leaf is due, for so many.
    pub fn count_refused(&self, host: Option<&HostId>, what: &str, refusal: &Refusal, now_ms: u64) -> Option<u64> {
        if what == "evidence" {
            self.note_refused(host, refusal);
        }
        let known = host.and_then(|id| self.host(id)).map(|snapshot| snapshot.host.record.host);
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).count(known, refusal.reason, now_ms)
    }
    /// Counted refusals whose leaf is due.
    pub(super) fn refusals_due(&self, now_ms: u64) -> Vec<Tally> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).due(now_ms)
    }
    /// Evidence accepted and refused since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.accepted.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
    /// The highest checkpoint that a host has witnessed.
    pub fn witnessed(&self) -> Option<WitnessedCheckpoint> {
        let hosts = self.hosts();
        hosts.iter().filter_map(|s| s.host.progress.seen.as_ref()?.witnessed).max_by_key(|checkpoint| checkpoint.size)
    }
    /// SHA-256 of what was tried, for a refusal's leaf.
    pub fn input(bytes: &[u8]) -> Digest {
        Digest::of(&[bytes])
    }
}
