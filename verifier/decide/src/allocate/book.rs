//! The book: every grant that holds capacity, with running sums per tenant and application.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use quotary_common::cbor::{Text, Version};
use quotary_common::envelope::Name;
use quotary_common::grant::Grant;
use quotary_common::id::{Digest, GrantId, HostId};
use quotary_common::units::{ResourceKind, Resources};

/// A grant as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GrantRecord {
    /// Form version.
    #[n(0)]
    pub version: Version<1>,
    /// The host.
    #[n(1)]
    pub host: HostId,
    /// What was given.
    #[n(2)]
    pub grant: Grant,
    /// What was asked for.
    #[n(3)]
    pub requested: Resources,
    /// The epoch under which it was given.
    #[n(4)]
    pub epoch: u64,
    /// The sequence number of the envelope that asked.
    #[n(5)]
    pub given_sequence: u64,
    /// When it was given or last changed its size, Unix ms.
    #[n(6)]
    pub sized_at_ms: u64,
    /// Why it has its size.
    #[n(7)]
    pub why: Text<512>,
    /// SHA-256 of the model whose forecast its size rests on.
    #[n(8)]
    pub model: Option<Digest>,
    /// What it would be if no policy cut it; absent: none does.
    #[n(9)]
    pub uncut: Option<Resources>,
}

/// A grant in the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it is kept.
    pub record: GrantRecord,
    /// It is over for the host, but its capacity is held until then, Unix ms: whoever still runs under it may do so
    /// until lease and margin are over.
    pub fenced_until_ms: Option<u64>,
}

impl Entry {
    /// Whether it was ended by a higher epoch.
    pub fn is_fenced(&self) -> bool {
        self.fenced_until_ms.is_some()
    }
}

/// What one host holds.
#[derive(Debug, Clone, Default)]
pub struct HostShare {
    /// Its inventory.
    pub capacity: Resources,
    /// Until when its grants hold capacity without further evidence, Unix ms.
    pub held_until_ms: u64,
    entries: BTreeMap<GrantId, Entry>,
}

/// All grants.
#[derive(Debug, Default)]
pub struct Book {
    hosts: BTreeMap<HostId, HostShare>,
    tenants: BTreeMap<Name, [u64; 5]>,
    applications: BTreeMap<Name, [u64; 5]>,
}

impl HostShare {
    /// Its grants.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
    /// One grant.
    pub fn get(&self, id: &GrantId) -> Option<&Entry> {
        self.entries.get(id)
    }
    /// Sum of one resource over its grants.
    pub fn granted(&self, kind: ResourceKind) -> u64 {
        self.entries.values().filter_map(|entry| entry.record.grant.resources.get(kind)).fold(0, u64::saturating_add)
    }
}

impl Book {
    /// What a host holds.
    pub fn host(&self, host: &HostId) -> Option<&HostShare> {
        self.hosts.get(host)
    }
    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostId, &HostShare)> {
        self.hosts.iter()
    }
    /// Sets a host's inventory.
    pub fn set_capacity(&mut self, host: HostId, capacity: Resources) {
        self.hosts.entry(host).or_default().capacity = capacity;
    }
    /// Holds a host's grants until `until_ms`, or longer if they already are.
    pub fn hold_until(&mut self, host: &HostId, until_ms: u64) {
        if let Some(share) = self.hosts.get_mut(host) {
            share.held_until_ms = share.held_until_ms.max(until_ms);
        }
    }
    /// What a tenant holds.
    pub fn tenant(&self, tenant: &Name, kind: ResourceKind) -> u64 {
        self.tenants.get(tenant).map_or(0, |sums| sums[kind as usize])
    }
    /// What an application holds.
    pub fn application(&self, application: &Name, kind: ResourceKind) -> u64 {
        self.applications.get(application).map_or(0, |sums| sums[kind as usize])
    }

    /// Puts a grant, new or changed.
    pub fn put(&mut self, record: GrantRecord) {
        self.remove(&record.host, &record.grant.id);
        add(&mut self.tenants, &record.grant.tenant, &record.grant.resources);
        add(&mut self.applications, &record.grant.application, &record.grant.resources);
        let share = self.hosts.entry(record.host).or_default();
        share.entries.insert(record.grant.id, Entry { record, fenced_until_ms: None });
    }

    /// Takes a grant out: its capacity is free.
    pub fn remove(&mut self, host: &HostId, id: &GrantId) -> Option<GrantRecord> {
        let entry = self.hosts.get_mut(host)?.entries.remove(id)?;
        let grant = &entry.record.grant;
        subtract(&mut self.tenants, &grant.tenant, &grant.resources);
        subtract(&mut self.applications, &grant.application, &grant.resources);
        Some(entry.record)
    }

    /// Ends all grants of a host whose epoch was raised; their capacity is held on until lease and margin, counted
    /// from the last accepted evidence, are over.
    pub fn fence(&mut self, host: &HostId) -> Vec<GrantRecord> {
        self.fence_where(host, |_| true)
    }

    /// The same for those given under an epoch before `epoch` (what a restart finds).
    pub fn fence_older(&mut self, host: &HostId, epoch: u64) -> Vec<GrantRecord> {
        self.fence_where(host, |record| record.epoch < epoch)
    }

    fn fence_where(&mut self, host: &HostId, is_over: impl Fn(&GrantRecord) -> bool) -> Vec<GrantRecord> {
        let Some(share) = self.hosts.get_mut(host) else { return Vec::new() };
        let until_ms = share.held_until_ms;
        let running = share.entries.values_mut().filter(|entry| !entry.is_fenced() && is_over(&entry.record));
        running
            .map(|entry| {
                entry.fenced_until_ms = Some(until_ms);
                entry.record.clone()
            })
            .collect()
    }

    /// The grants whose hold is over at `now_ms`: silence for lease and margin, or fenced for as long.
    pub fn expired(&self, now_ms: u64) -> Vec<GrantRecord> {
        let over = |share: &HostShare, entry: &Entry| entry.fenced_until_ms.unwrap_or(share.held_until_ms) <= now_ms;
        self.hosts
            .values()
            .flat_map(|share| share.entries.values().filter(move |entry| over(share, entry)))
            .map(|entry| entry.record.clone())
            .collect()
    }

    /// Number of grants.
    pub fn count(&self) -> u64 {
        self.hosts.values().map(|share| share.entries.len() as u64).sum()
    }
}

fn add(sums: &mut BTreeMap<Name, [u64; 5]>, name: &Name, resources: &Resources) {
    let sum = sums.entry(name.clone()).or_default();
    for (total, amount) in sum.iter_mut().zip(resources.amounts()) {
        *total = total.saturating_add(amount.unwrap_or(0));
    }
}

fn subtract(sums: &mut BTreeMap<Name, [u64; 5]>, name: &Name, resources: &Resources) {
    if let Some(sum) = sums.get_mut(name) {
        for (total, amount) in sum.iter_mut().zip(resources.amounts()) {
            *total = total.saturating_sub(amount.unwrap_or(0));
        }
        if sum.iter().all(|total| *total == 0) {
            sums.remove(name);
        }
    }
}
