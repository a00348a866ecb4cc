//! What the journal's records add up to. Pure.

use std::collections::BTreeMap;

use quotary_common::envelope::{CgroupPath, ControlValue};
use quotary_common::id::{BootId, DeploymentId, GrantId};
use quotary_common::lease::Lease;
use quotary_common::steps::{Step, Steps};

use super::controls::Knob;
use super::record::{EndReason, Entry, LeaseForm, Owner, Record};

/// Most remembered entries of one grant: the first, and the newest ones.
const ENTRIES_MAX: usize = 16;

/// How far a grant's group has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupState {
    /// Nothing was made.
    None,
    /// It was about to be made: it may be there, in part.
    Making,
    /// It is there.
    Made,
}

/// What was written to a control.
pub type Written = Step<ControlValue>;

/// One grant that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldGrant {
    /// Where its group stands, or would stand.
    pub cgroup: CgroupPath,
    /// Until when it holds.
    pub lease: Lease,
    /// Whose it is, where the journal says.
    pub owner: Option<Owner>,
    /// How far its group has come.
    pub group: GroupState,
    /// The controls written in its group.
    pub written: Steps<Knob, ControlValue>,
    /// Who entered it.
    pub entries: Vec<Entry>,
    /// Why it is ending, when it is.
    pub ending: Option<EndReason>,
}

/// What the journal adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Every grant that is held, or whose group is not gone yet.
    pub grants: BTreeMap<GrantId, HeldGrant>,
    /// When grants ended that the verifier may not know of yet: boot, and ms on its `CLOCK_BOOTTIME`.
    pub ended: BTreeMap<GrantId, (BootId, u64)>,
    /// The highest epoch seen under this enrolment.
    pub epoch: u64,
    /// The deployment of this enrolment; `None` in a journal from before enrolments were kept there.
    pub deployment: Option<DeploymentId>,
    /// The parent of our groups, where the agent made it.
    pub parent_made: Option<CgroupPath>,
    /// Controllers enabled: per cgroup what was there before the first time, and what was last written.
    pub enabled: BTreeMap<CgroupPath, (ControlValue, ControlValue)>,
}

impl Held {
    /// Adds one record. A record about a grant that is not held changes nothing.
    pub fn add(&mut self, record: &Record) {
        match record {
            Record::Granted { grant, cgroup, lease, owner } => {
                self.epoch = self.epoch.max(lease.epoch);
                if !self.grants.contains_key(grant) {
                    self.ended.remove(grant);
                    self.grants.insert(*grant, HeldGrant::new(cgroup, lease, owner.as_ref()));
                }
            }
            Record::Renewed { lease } => {
                self.epoch = self.epoch.max(lease.epoch);
                let unknown = |(boot_id, at_ms): &(BootId, u64)| *boot_id == lease.boot_id && *at_ms >= lease.start_ms;
                self.ended.retain(|grant, ended| unknown(ended) || self.grants.contains_key(grant));
                for held in self.grants.values_mut().filter(|held| held.ending.is_none()) {
                    held.lease = lease.into();
                }
            }
            Record::Fenced { epoch } => self.epoch = self.epoch.max(*epoch),
            Record::Enrolled { deployment, epoch } => {
                self.deployment = Some(*deployment);
                self.epoch = *epoch;
            }
            Record::Removed { grant } => {
                self.grants.remove(grant);
            }
            Record::Preparing { parent, made } => {
                if *made {
                    self.parent_made = Some(parent.clone());
                }
            }
            Record::ParentRemoved => self.parent_made = None,
            Record::Enabling { cgroup, before, after } => {
                let entry = self.enabled.entry(cgroup.clone()).or_insert_with(|| (before.clone(), after.clone()));
                entry.1 = after.clone();
            }
            Record::Ending { grant, boot_id, at_ms, .. } => {
                self.ended.insert(*grant, (*boot_id, *at_ms));
                if let Some(held) = self.grants.get_mut(grant) {
                    held.add(record);
                }
            }
            Record::Making { grant }
            | Record::Made { grant }
            | Record::Writing { grant, .. }
            | Record::Wrote { grant, .. }
            | Record::Contested { grant, .. }
            | Record::Entering { grant, .. }
            | Record::NotEntered { grant, .. } => {
                if let Some(held) = self.grants.get_mut(grant) {
                    held.add(record);
                }
            }
        }
    }

    /// Whether a grant ended here after the envelope was built that `lease` counts from: a set that answers that
    /// envelope still lists it, and must not bring it back.
    pub fn ended_since(&self, grant: &GrantId, lease: &Lease) -> bool {
        self.ended.get(grant).is_some_and(|(boot_id, at_ms)| *boot_id == lease.boot_id && *at_ms >= lease.start_ms)
    }

    /// The fewest records that add up to the same.
    pub fn records(&self) -> Vec<Record> {
        let mut records = vec![Record::Fenced { epoch: self.epoch }];
        if let Some(parent) = &self.parent_made {
            records.push(Record::Preparing { parent: parent.clone(), made: true });
        }
        for (cgroup, (before, after)) in &self.enabled {
            let (cgroup, before, after) = (cgroup.clone(), before.clone(), after.clone());
            records.push(Record::Enabling { cgroup, before, after });
        }
        // Grants first: an ending is also one of its grant's records.
        for (grant, held) in &self.grants {
            held.records(*grant, &mut records);
        }
        for (grant, (boot_id, at_ms)) in &self.ended {
            let reason = self.grants.get(grant).and_then(|held| held.ending).unwrap_or(EndReason::Released);
            records.push(Record::Ending { grant: *grant, reason, boot_id: *boot_id, at_ms: *at_ms });
        }
        // Last: a grant of an earlier enrolment whose group is not gone yet may be of a higher epoch.
        if let Some(deployment) = self.deployment {
            records.push(Record::Enrolled { deployment, epoch: self.epoch });
        }
        records
    }
}

impl HeldGrant {
    fn new(cgroup: &CgroupPath, lease: &LeaseForm, owner: Option<&Owner>) -> Self {
        Self {
            cgroup: cgroup.clone(),
            lease: lease.into(),
            owner: owner.cloned(),
            group: GroupState::None,
            written: Steps::default(),
            entries: Vec::new(),
            ending: None,
        }
    }

    fn add(&mut self, record: &Record) {
        match record {
            Record::Making { .. } if self.group == GroupState::None => self.group = GroupState::Making,
            Record::Made { .. } => self.group = GroupState::Made,
            Record::Writing { knob, before, after, .. } => self.written.announced(*knob, before.clone(), after.clone()),
            Record::Wrote { knob, actual, .. } => self.written.concluded(knob, actual.clone()),
            Record::Contested { knob, .. } => self.written.contested(knob),
            Record::Entering { entry, .. } => {
                self.entries.retain(|known| known.pid != entry.pid);
                if self.entries.len() >= ENTRIES_MAX {
                    self.entries.remove(1);
                }
                self.entries.push(entry.clone());
            }
            Record::NotEntered { pid, .. } => self.entries.retain(|known| known.pid != *pid),
            Record::Ending { reason, .. } => self.ending = self.ending.or(Some(*reason)),
            _ => {}
        }
    }

    fn records(&self, grant: GrantId, out: &mut Vec<Record>) {
        let lease = LeaseForm::from(&self.lease);
        let (cgroup, owner) = (self.cgroup.clone(), self.owner.clone());
        out.push(Record::Granted { grant, cgroup, lease, owner });
        if self.group != GroupState::None {
            out.push(Record::Making { grant });
        }
        if self.group == GroupState::Made {
            out.push(Record::Made { grant });
        }
        for (knob, written) in self.written.iter() {
            let knob = *knob;
            let (first, last) = (written.baseline.clone(), written.before.clone());
            let after = written.setpoint.clone();
            if first != last {
                out.push(Record::Writing { grant, knob, before: first, after: after.clone() });
            }
            out.push(Record::Writing { grant, knob, before: last, after });
            if written.ended {
                out.push(Record::Wrote { grant, knob, actual: written.actual.clone() });
            }
            if written.contested {
                out.push(Record::Contested { grant, knob });
            }
        }
        out.extend(self.entries.iter().map(|entry| Record::Entering { grant, entry: entry.clone() }));
    }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
