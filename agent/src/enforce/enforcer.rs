//! The enforcer: the shell round `decide` that does its steps, each journaled before and read back after.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use quotary_common::cbor::Bounded;
use quotary_common::envelope::{
    Backend, BackendKind, CgroupPath, ControlValue, EnforcementWrite, Event, EventKind, Hierarchy, Mode,
};
use quotary_common::grant::{Grant, VerifiedGrantSet};
use quotary_common::id::{BootId, GrantId, RequestId};
use quotary_common::lease::Lease;
use quotary_common::plan::ShapedControl;

use super::controls::{Device, Knob, Setting};
use super::decide::{self, Now, Setup, Step};
use super::error::EnforceError;
use super::group::{DEFAULT_PARENT, GroupPath};
use super::groups::{CgroupsRs, Groups};
use super::held::{GroupState, HeldGrant};
use super::journal::Journal;
use super::probe::{Capabilities, Survey, probe};
use super::process;
use super::record::{EndReason, Owner, Record};
use crate::shape::Owners;
use crate::shape::backend::Backend as Door;
use crate::shape::holds::{is_moved_by, is_scope, target_of};
use crate::shape::systemd::Systemd;
use crate::state::StateDir;

/// How enforcement is configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where `proc` and `sys` are found: `/` on a host, a directory in tests.
    pub root: PathBuf,
    /// Where the journal is kept.
    pub state_dir: StateDir,
    /// How far the agent may go; it goes less far where the host does not let it.
    pub mode: Mode,
    /// The cgroup below which our groups stand, the same path in every hierarchy; [`DEFAULT_PARENT`] if `None`.
    pub delegated_parent: Option<String>,
    /// The disks that a disk amount is throttled on: see [`super::whole_disks`].
    pub devices: Vec<Device>,
}

/// What an action of the enforcer came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Writes to controls, done or (dry run) only shown.
    pub writes: Vec<EnforcementWrite>,
    /// What happened besides.
    pub events: Vec<Event>,
    /// Grants that ended by it.
    pub ended: Vec<(GrantId, EndReason)>,
}

impl Outcome {
    /// Adds what came after.
    pub fn append(&mut self, mut later: Self) {
        self.writes.append(&mut later.writes);
        self.events.append(&mut later.events);
        self.ended.append(&mut later.ended);
    }
}

/// Holds grants on this host, and their limits in the kernel.
#[derive(Debug)]
pub struct Enforcer {
    pub(super) root: PathBuf,
    pub(super) setup: Setup,
    pub(super) capabilities: Capabilities,
    pub(super) backend: Box<dyn Door>,
    pub(super) journal: Journal,
    pub(super) boot_id: BootId,
    /// Would-be writes already shown in a dry run.
    pub(super) shown: BTreeMap<(GrantId, Knob), ControlValue>,
    /// Controls that plans move, by group: they are left to them meanwhile.
    pub(super) shaped: BTreeMap<CgroupPath, BTreeSet<ShapedControl>>,
    /// Values that could not be set yet: for want of a first process, of memory given back, or for a plan.
    pub(super) waiting: BTreeMap<GrantId, Vec<Setting>>,
    /// The last group whose controls were compared.
    pub(super) compared: Option<GrantId>,
    /// When endings that did not succeed are tried again, ms on `CLOCK_BOOTTIME`.
    pub(super) retry_at_ms: u64,
}

impl Enforcer {
    /// Opens the journal, looks at the host, and brings both together: limits whose lease still runs (this boot,
    /// `CLOCK_BOOTTIME` `now_ms`) stay, the rest is put back (wire.md, settled question 8).
    ///
    /// # Errors
    /// [`EnforceError::Parent`] or [`EnforceError::Journal`]: without them nothing can be enforced or undone.
    pub fn open(config: Config, boot_id: BootId, now_ms: u64) -> Result<(Self, Outcome), EnforceError> {
        Self::open_with(config, Box::new(CgroupsRs), boot_id, now_ms)
    }

    /// As [`Enforcer::open`], with `groups` standing for the kernel where `config.root` is a tree of plain files.
    ///
    /// # Errors
    /// As [`Enforcer::open`].
    pub fn open_with(
        config: Config,
        groups: Box<dyn Groups>,
        boot_id: BootId,
        now_ms: u64,
    ) -> Result<(Self, Outcome), EnforceError> {
        let parent = parent_of(&config)?;
        let survey = probe(&config.root, &parent);
        let backend = Owners::for_grants(&config.root, survey, &parent, config.devices.clone(), groups);
        Self::open_through(config, Box::new(backend), boot_id, now_ms)
    }

    /// As [`Enforcer::open`], through a given door to what holds grants.
    ///
    /// # Errors
    /// As [`Enforcer::open`].
    pub(crate) fn open_through(
        config: Config,
        backend: Box<dyn Door>,
        boot_id: BootId,
        now_ms: u64,
    ) -> Result<(Self, Outcome), EnforceError> {
        let parent = parent_of(&config)?;
        let journal = Journal::open(&config.state_dir).map_err(EnforceError::Journal)?;
        let Survey { capabilities, .. } = probe(&config.root, &parent);
        let mut mode = config.mode;
        if let (Mode::Enforce, Some(why_not)) = (mode, &capabilities.why_not) {
            tracing::warn!(%why_not, "nothing is enforced on this host: grants are only shown (dry run)");
            mode = Mode::DryRun;
        }
        let hierarchy = capabilities.hierarchy;
        // An administrator who names a subtree has delegated it: then it is ours to write, whoever owns the rest.
        let in_scopes = config.delegated_parent.is_none() && Systemd::owns(&config.root);
        let mut enforcer = Self {
            root: config.root,
            setup: Setup { mode, hierarchy, parent, in_scopes, devices: config.devices },
            backend,
            capabilities,
            journal,
            boot_id,
            shown: BTreeMap::new(),
            shaped: BTreeMap::new(),
            waiting: BTreeMap::new(),
            compared: None,
            retry_at_ms: 0,
        };
        let outcome = enforcer.start(now_ms);
        Ok((enforcer, outcome))
    }

    fn start(&mut self, now_ms: u64) -> Outcome {
        let mut outcome = Outcome::default();
        for (grant, reason) in decide::on_start(self.journal.held(), self.setup.mode, self.now(now_ms)) {
            outcome.append(self.end_and_say_restored(grant, reason, now_ms));
        }
        self.retry_all_endings();
        let made: Vec<GrantId> = decide::running(self.journal.held())
            .filter(|(_, held)| held.group == GroupState::Made)
            .map(|(id, _)| *id)
            .collect();
        for grant in made {
            let group = self.group_of(&grant).filter(|group| !self.backend.has(&target_of(group)));
            if let Some(group) = group {
                // A scope goes with its last process; a group of ours goes when somebody removes it.
                let reason = if is_scope(&group) { EndReason::Empty } else { EndReason::Vanished };
                outcome.append(self.end(grant, reason, now_ms));
            } else {
                outcome.append(self.finish_writes(grant, now_ms));
            }
        }
        self.remove_unused_parent();
        outcome
    }

    /// Brings the host to a verified grant set: ends what it no longer lists, renews, takes what is new (with
    /// its group, so that processes can enter), resizes. `askers` are the uids that asked, by request, as far as
    /// they are known: whose a grant is lasts as long as the grant itself.
    pub fn apply(&mut self, set: &VerifiedGrantSet, askers: &BTreeMap<RequestId, u32>, now_ms: u64) -> Outcome {
        self.apply_asked(&set.set().grants, askers, set.lease(), now_ms)
    }

    #[cfg(test)]
    pub(crate) fn apply_grants(&mut self, grants: &[Grant], lease: &Lease, now_ms: u64) -> Outcome {
        self.apply_asked(grants, &BTreeMap::new(), lease, now_ms)
    }

    fn apply_asked(
        &mut self,
        grants: &[Grant],
        askers: &BTreeMap<RequestId, u32>,
        lease: &Lease,
        now_ms: u64,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let held_epoch = self.journal.held().epoch;
        if lease.epoch < held_epoch {
            tracing::warn!(epoch = lease.epoch, held_epoch, "a grant set of an older epoch is ignored");
        }
        for step in decide::on_grants(self.journal.held(), grants, lease, &self.setup, self.now(now_ms)) {
            let done = match step {
                Step::End { grant, reason } => {
                    outcome.append(self.end(grant, reason, now_ms));
                    Ok(())
                }
                Step::Fence { epoch } => {
                    outcome.append(self.fence(epoch, now_ms));
                    Ok(())
                }
                Step::Renew { lease } => {
                    self.journal.announce(&[Record::Renewed { lease: (&lease).into() }]).map_err(EnforceError::Journal)
                }
                Step::Take { grant, cgroup, lease } => {
                    let cgroup = cgroup.as_cgroup().clone();
                    let listed = grants.iter().find(|listed| listed.id == grant);
                    let owner = listed.map(|listed| owner_of(listed, askers));
                    let record = Record::Granted { grant, cgroup, lease: (&lease).into(), owner };
                    self.journal.announce(&[record]).map_err(EnforceError::Journal)
                }
                Step::Make { grant } => self.make(grant, now_ms).map(|made| outcome.append(made)),
                Step::Set { grant, settings } => {
                    self.set(grant, &settings, now_ms).map(|written| outcome.append(written))
                }
            };
            if let Err(error) = done {
                // What was done is journaled; what was not is tried again with the next set.
                tracing::error!(error = &error as &dyn std::error::Error, "a grant set was not applied in full");
                break;
            }
        }
        outcome
    }

    /// Plans move these controls of these groups from now on, and no others: a grant's own values for them wait until that
    /// is over.
    pub fn leave_to_plans(&mut self, shaped: BTreeMap<CgroupPath, BTreeSet<ShapedControl>>) {
        self.shaped = shaped;
    }

    /// Whether a control is left to a plan.
    pub(super) fn is_left(&self, cgroup: &CgroupPath, knob: Knob) -> bool {
        let moved = self.shaped.get(cgroup);
        moved.is_some_and(|moved| moved.iter().any(|control| is_moved_by(knob, *control)))
    }

    /// What time brings, each second: leases that ran out, groups that became empty, values changed by another
    /// writer (which are left to it), endings that did not succeed at once.
    pub fn tick(&mut self, now_ms: u64) -> Outcome {
        self.retry_endings(now_ms);
        let mut outcome = Outcome::default();
        for (grant, reason) in decide::on_time(self.journal.held(), self.now(now_ms)) {
            outcome.append(self.end(grant, reason, now_ms));
        }
        let over: Vec<GrantId> = decide::running(self.journal.held())
            .filter(|(_, held)| !held.entries.is_empty() && self.is_empty(held))
            .map(|(id, _)| *id)
            .collect();
        for grant in over {
            outcome.append(self.end(grant, EndReason::Empty, now_ms));
        }
        outcome.append(self.set_what_waits(now_ms));
        outcome.append(self.compare_some(now_ms));
        outcome
    }

    /// Ends a grant that its application gave back.
    ///
    /// # Errors
    /// [`EnforceError::UnknownGrant`] when it is not held.
    pub fn release(&mut self, grant: &GrantId, now_ms: u64) -> Result<Outcome, EnforceError> {
        self.running_grant(grant)?;
        Ok(self.end(*grant, EndReason::Released, now_ms))
    }

    /// Raises the epoch: what was granted under a lower one ends now.
    pub fn fence(&mut self, epoch: u64, now_ms: u64) -> Outcome {
        self.journal.announce_undo(&[Record::Fenced { epoch }]);
        let mut outcome = Outcome::default();
        for (grant, reason) in decide::on_time(self.journal.held(), self.now(now_ms)) {
            outcome.append(self.end(grant, reason, now_ms));
        }
        outcome
    }

    /// Puts back the state before Quotary: for the orderly stop (SIGTERM).
    pub fn restore_all(&mut self, now_ms: u64) -> Outcome {
        let mut outcome = Outcome::default();
        let running: Vec<GrantId> = decide::running(self.journal.held()).map(|(id, _)| *id).collect();
        for grant in running {
            outcome.append(self.end(grant, EndReason::Stopped, now_ms));
        }
        self.retry_all_endings();
        self.remove_unused_parent();
        outcome
    }

    /// Grants in use: what the envelope says is held.
    pub fn held(&self) -> Vec<GrantId> {
        decide::running(self.journal.held()).map(|(id, _)| *id).collect()
    }

    /// The groups that were made, for the sampler: path, grant, and the uid that entered first.
    pub fn groups(&self) -> Vec<(CgroupPath, GrantId, Option<u32>)> {
        decide::running(self.journal.held())
            .filter(|(_, held)| held.group == GroupState::Made)
            .map(|(id, held)| (held.cgroup.clone(), *id, held.entries.first().and_then(|entry| entry.uid)))
            .collect()
    }

    /// Until when a grant is held.
    pub fn lease(&self, grant: &GrantId) -> Option<Lease> {
        self.running_grant(grant).ok().map(|held| held.lease)
    }

    /// Whose a grant is, where the journal says.
    pub fn owner(&self, grant: &GrantId) -> Option<Owner> {
        self.running_grant(grant).ok().and_then(|held| held.owner.clone())
    }

    /// What enforcement can do here, and why not more.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// How far the agent really goes.
    pub fn mode(&self) -> Mode {
        self.setup.mode
    }

    /// How the envelope describes enforcement.
    pub fn backend(&self) -> Backend {
        let (controls, _) = Bounded::truncating(self.capabilities.controls.clone());
        Backend { kind: self.kind(), mode: self.setup.mode, hierarchy: self.setup.hierarchy, controls }
    }

    pub(super) fn kind(&self) -> BackendKind {
        let usable = self.capabilities.writable && self.setup.hierarchy != Hierarchy::None;
        match (usable, self.setup.in_scopes) {
            (false, _) => BackendKind::None,
            (true, false) => BackendKind::Direct,
            (true, true) => BackendKind::Systemd,
        }
    }

    /// Who serves a group.
    pub(super) fn kind_of(&self, group: &GroupPath) -> BackendKind {
        match self.kind() {
            BackendKind::None => BackendKind::None,
            BackendKind::Direct | BackendKind::Systemd => self.backend.kind_of(&target_of(group)),
        }
    }

    pub(super) fn now(&self, now_ms: u64) -> Now {
        Now { boot_id: self.boot_id, now_ms }
    }

    pub(super) fn running_grant(&self, grant: &GrantId) -> Result<&HeldGrant, EnforceError> {
        let held = self.journal.held().grants.get(grant).filter(|held| held.ending.is_none());
        held.ok_or(EnforceError::UnknownGrant { grant: *grant })
    }

    /// Where the group of a grant stands, as the journal says: the configured parent may have changed since.
    pub(super) fn group_of(&self, grant: &GrantId) -> Option<GroupPath> {
        self.journal.held().grants.get(grant).and_then(|held| GroupPath::parse(held.cgroup.as_str()))
    }

    /// Whether nobody runs under the grant any more: by its group, or without one by who entered.
    fn is_empty(&self, held: &HeldGrant) -> bool {
        match (held.group, GroupPath::parse(held.cgroup.as_str())) {
            (GroupState::None, _) | (_, None) => held.entries.iter().all(|entry| {
                let started = process::start_time_ticks(&self.root, entry.pid);
                matches!(started, Ok(found) if found != Some(entry.start_time_ticks))
            }),
            (_, Some(group)) => self.backend.is_empty(&target_of(&group)).unwrap_or_else(|error| {
                tracing::debug!(error = &error as &dyn std::error::Error, %group, "it cannot be told whether anybody is in it");
                false
            }),
        }
    }
}

fn parent_of(config: &Config) -> Result<GroupPath, EnforceError> {
    let given = config.delegated_parent.as_deref().unwrap_or(DEFAULT_PARENT);
    GroupPath::parse(given).ok_or_else(|| EnforceError::Parent { given: given.to_owned() })
}

fn owner_of(grant: &Grant, askers: &BTreeMap<RequestId, u32>) -> Owner {
    Owner {
        uid: askers.get(&grant.request).copied(),
        application: grant.application.clone(),
        tenant: grant.tenant.clone(),
        class: grant.class,
        resources: grant.resources,
    }
}

pub(super) fn happened(kind: EventKind, group: &GroupPath, at_ms: u64) -> Event {
    Event { kind, cgroup: Some(group.as_cgroup().clone()), count: 1, at_ms }
}
