//! The grants that this host holds, as their applications see them. Pure but for the channels of watchers.

use std::collections::BTreeMap;

use quotary_common::envelope::{BackendKind, CgroupPath, EnforcementWrite, Mode};
use quotary_common::grant::Grant;
use quotary_common::id::{BootId, GrantId};
use quotary_common::lease::{Lease, LeaseState};
use quotary_common::units::{Class, Resources};
use quotary_common::wire::{ControlView, GrantState, LocalGrant};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::enforcement::Holding;
use crate::enforce::group::GroupPath;
use crate::enforce::{Outcome, Owner};
use crate::shape::holds::is_scope;

/// The file of what must outlive the agent: whose each grant is.
pub(super) const GRANTS_FILE: &str = "grants.json";
/// Largest such file, in bytes.
pub(super) const GRANTS_BYTES_MAX: usize = 4 << 20;
/// A grant under which nothing runs, and that nobody watches, is given back after so long, ms.
const UNUSED_MS: u64 = 60_000;

/// What is kept of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    grant: GrantId,
    /// Who asked; absent where that was lost: then it is nobody's, and ends when its group is empty.
    uid: Option<u32>,
    application: String,
    tenant: String,
    class: Class,
    resources: Resources,
    controls: Vec<ControlView>,
}

impl Kept {
    /// What the enforcer's journal says of a grant whose newer facts were lost in a crash.
    fn from_journal(grant: GrantId, owner: Option<&Owner>) -> Self {
        Self {
            grant,
            uid: owner.and_then(|owner| owner.uid),
            application: owner.map(|owner| owner.application.as_str().to_owned()).unwrap_or_default(),
            tenant: owner.map(|owner| owner.tenant.as_str().to_owned()).unwrap_or_default(),
            class: owner.map(|owner| owner.class).unwrap_or_default(),
            resources: owner.map(|owner| owner.resources).unwrap_or_default(),
            controls: Vec::new(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    kept: Kept,
    lease: Option<Lease>,
    cgroup: Option<CgroupPath>,
    has_entered: bool,
    since_ms: u64,
    view: watch::Sender<LocalGrant>,
}

/// All grants that are held.
#[derive(Debug)]
pub(super) struct Grants {
    entries: BTreeMap<GrantId, Entry>,
    boot_id: BootId,
    mode: Mode,
    is_dirty: bool,
}

impl Entry {
    fn show(&self, boot_id: BootId, mode: Mode, now_ms: u64) -> LocalGrant {
        let lease_left_ms = match self.lease.map(|lease| lease.state(boot_id, 0, now_ms)) {
            Some(LeaseState::Running { left_ms }) => left_ms,
            _ => 0,
        };
        LocalGrant {
            grant: self.kept.grant,
            id: self.kept.grant.to_string(),
            application: self.kept.application.clone(),
            tenant: self.kept.tenant.clone(),
            class: self.kept.class,
            resources: self.kept.resources,
            lease_left_ms,
            cgroup: self.cgroup.as_ref().map(|path| path.as_str().to_owned()),
            backend: self.cgroup.as_ref().map(owner_of),
            mode,
            state: GrantState::Running,
            controls: self.kept.controls.clone(),
        }
    }
}

impl Grants {
    /// What the enforcer holds at the start, with what was kept of it.
    pub(super) fn restore(kept: Option<&[u8]>, holding: &Holding, boot_id: BootId, mode: Mode, now_ms: u64) -> Self {
        let kept: Vec<Kept> = kept.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
        let mut grants = Self { entries: BTreeMap::new(), boot_id, mode, is_dirty: false };
        for (id, _) in &holding.held {
            let known = kept.iter().find(|kept| kept.grant == *id).cloned();
            let owner = holding.owners.iter().find(|(owned, _)| owned == id).map(|(_, owner)| owner);
            let mut kept = known.unwrap_or_else(|| Kept::from_journal(*id, owner));
            kept.uid = kept.uid.or(owner.and_then(|owner| owner.uid));
            grants.insert(kept, None, now_ms);
        }
        grants.set_holding(holding, now_ms);
        grants
    }

    /// How many one uid holds.
    pub(super) fn count_of(&self, uid: u32) -> usize {
        self.entries.values().filter(|entry| entry.kept.uid == Some(uid)).count()
    }

    fn insert(&mut self, kept: Kept, lease: Option<Lease>, now_ms: u64) {
        let id = kept.grant;
        let mut entry = Entry {
            kept,
            lease,
            cgroup: None,
            has_entered: false,
            since_ms: now_ms,
            view: watch::Sender::new(placeholder(id)),
        };
        let shown = entry.show(self.boot_id, self.mode, now_ms);
        entry.view = watch::Sender::new(shown);
        self.entries.insert(id, entry);
        self.is_dirty = true;
    }

    /// What must be kept, if it changed since the last call.
    pub(super) fn take_unkept(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.is_dirty) {
            return None;
        }
        let kept: Vec<&Kept> = self.entries.values().map(|entry| &entry.kept).collect();
        serde_json::to_vec(&kept).ok()
    }

    /// What was taken last was not kept: it is taken again.
    pub(super) fn set_unkept(&mut self) {
        self.is_dirty = true;
    }

    /// Whether it is held.
    pub(super) fn knows(&self, grant: &GrantId) -> bool {
        self.entries.contains_key(grant)
    }

    /// Takes in a grant of a verified set, new or changed; `uid` asked for it, where that is known.
    pub(super) fn take_in(&mut self, grant: &Grant, uid: Option<u32>, lease: Lease, now_ms: u64) {
        let Some(entry) = self.entries.get_mut(&grant.id) else {
            let kept = Kept {
                grant: grant.id,
                uid,
                application: grant.application.as_str().to_owned(),
                tenant: grant.tenant.as_str().to_owned(),
                class: grant.class,
                resources: grant.resources,
                controls: Vec::new(),
            };
            return self.insert(kept, Some(lease), now_ms);
        };
        let before = entry.kept.clone();
        entry.lease = Some(lease);
        entry.kept.uid = entry.kept.uid.or(uid);
        entry.kept.application = grant.application.as_str().to_owned();
        entry.kept.tenant = grant.tenant.as_str().to_owned();
        entry.kept.class = grant.class;
        entry.kept.resources = grant.resources;
        self.is_dirty |= before != entry.kept;
    }

    /// Notes what the enforcer did: controls that it wrote, grants that ended.
    pub(super) fn note(&mut self, outcome: &Outcome) {
        for write in &outcome.writes {
            if let Some(entry) = write.grant.and_then(|grant| self.entries.get_mut(&grant)) {
                note_control(&mut entry.kept.controls, write);
                self.is_dirty = true;
            }
        }
        for (grant, _) in &outcome.ended {
            self.end(grant);
        }
    }

    fn end(&mut self, grant: &GrantId) {
        if let Some(entry) = self.entries.remove(grant) {
            self.is_dirty = true;
            entry.view.send_modify(|view| {
                view.state = GrantState::Ended;
                view.lease_left_ms = 0;
                (view.cgroup, view.backend) = (None, None);
            });
        }
    }

    /// Brings groups and leases to what the enforcer holds; what it does not hold has ended.
    pub(super) fn set_holding(&mut self, holding: &Holding, now_ms: u64) {
        let gone: Vec<GrantId> =
            self.entries.keys().filter(|id| !holding.held.iter().any(|(held, _)| held == *id)).copied().collect();
        gone.iter().for_each(|grant| self.end(grant));
        for (id, lease) in &holding.held {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.lease = lease.or(entry.lease);
            }
        }
        for (path, id, entered_uid) in &holding.groups {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.cgroup = Some(path.clone());
                entry.has_entered |= entered_uid.is_some();
            }
        }
        self.tell_watchers(now_ms);
    }

    /// A process runs under the grant from now on.
    pub(super) fn entered(&mut self, grant: &GrantId) {
        if let Some(entry) = self.entries.get_mut(grant) {
            entry.has_entered = true;
        }
    }

    fn tell_watchers(&mut self, now_ms: u64) {
        let (boot_id, mode) = (self.boot_id, self.mode);
        for entry in self.entries.values() {
            let shown = entry.show(boot_id, mode, now_ms);
            entry.view.send_if_modified(|view| {
                // What is left of the lease changes all the time and is no change.
                let is_other = LocalGrant { lease_left_ms: view.lease_left_ms, ..shown.clone() } != *view;
                *view = shown;
                is_other
            });
        }
    }

    /// The grant of that name, if it is `uid`'s.
    pub(super) fn find(&self, name: &str, uid: u32) -> Option<GrantId> {
        let is_it = |entry: &&Entry| entry.kept.uid == Some(uid) && entry.kept.grant.is_named(name);
        self.entries.values().find(is_it).map(|entry| entry.kept.grant)
    }

    /// As its application sees it.
    pub(super) fn show(&self, grant: &GrantId, now_ms: u64) -> Option<LocalGrant> {
        self.entries.get(grant).map(|entry| entry.show(self.boot_id, self.mode, now_ms))
    }

    /// All, as root sees them.
    pub(super) fn show_all(&self, now_ms: u64) -> Vec<LocalGrant> {
        self.entries.values().map(|entry| entry.show(self.boot_id, self.mode, now_ms)).collect()
    }

    /// Each change of it from now on, its state at `now_ms` first.
    pub(super) fn watch(&mut self, grant: &GrantId, now_ms: u64) -> Option<watch::Receiver<LocalGrant>> {
        self.tell_watchers(now_ms);
        self.entries.get(grant).map(|entry| entry.view.subscribe())
    }

    /// Who asked for a grant.
    pub(super) fn uid(&self, grant: &GrantId) -> Option<u32> {
        self.entries.get(grant).and_then(|entry| entry.kept.uid)
    }

    /// The cgroup that carries a grant's limits.
    pub(super) fn cgroup(&self, grant: &GrantId) -> Option<&CgroupPath> {
        self.entries.get(grant).and_then(|entry| entry.cgroup.as_ref())
    }

    /// Grants under which nothing ran for long, and that nobody watches: whoever asked is gone.
    pub(super) fn unused(&self, now_ms: u64) -> Vec<GrantId> {
        let is_unused = |entry: &&Entry| {
            !entry.has_entered && entry.view.receiver_count() == 0 && now_ms.saturating_sub(entry.since_ms) >= UNUSED_MS
        };
        self.entries.values().filter(is_unused).map(|entry| entry.kept.grant).collect()
    }
}

/// Who owns the cgroup of a grant.
fn owner_of(cgroup: &CgroupPath) -> BackendKind {
    let is_unit = GroupPath::parse(cgroup.as_str()).is_some_and(|group| is_scope(&group));
    if is_unit { BackendKind::Systemd } else { BackendKind::Direct }
}

/// The state of a watch channel before its entry is shown.
fn placeholder(grant: GrantId) -> LocalGrant {
    LocalGrant {
        grant,
        id: grant.to_string(),
        application: String::new(),
        tenant: String::new(),
        class: Class::default(),
        resources: Resources::default(),
        lease_left_ms: 0,
        cgroup: None,
        backend: None,
        mode: Mode::Observe,
        state: GrantState::Running,
        controls: Vec::new(),
    }
}

/// The latest write of each control; for a control with one value per disk, of each disk.
fn note_control(controls: &mut Vec<ControlView>, write: &EnforcementWrite) {
    // Only a word like 8:0 names a disk: cpu.max has two numbers.
    let disk = |value: &str| value.split_once(' ').map(|(disk, _)| disk.to_owned()).filter(|disk| disk.contains(':'));
    let view = ControlView {
        control: write.control.as_str().to_owned(),
        requested: write.after.as_str().to_owned(),
        actual: write.actual.as_ref().map(|value| value.as_str().to_owned()),
        effective: write.effective,
    };
    let is_same =
        |other: &&mut ControlView| other.control == view.control && disk(&other.requested) == disk(&view.requested);
    match controls.iter_mut().find(is_same) {
        Some(other) => *other = view,
        None => controls.push(view),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
