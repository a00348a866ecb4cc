//! Ending a grant: its limits lifted, its processes back where they came from, its group gone.

use quotary_common::envelope::{EventKind, Hierarchy};
use quotary_common::id::GrantId;

use super::controls::Setting;
use super::enforcer::{Enforcer, Outcome, happened};
use super::group::GroupPath;
use super::held::{GroupState, HeldGrant};
use super::probe::Mount;
use super::process;
use super::record::{EndReason, Entry, Record};
use crate::shape::ShapeError;
use crate::shape::holds::target_of;

/// Endings tried again at once: each may wait for the kernel for a fraction of a second.
const RETRIED_PER_TICK: usize = 4;
/// How long to wait before they are tried again, ms.
const RETRY_MS: u64 = 5_000;

impl Enforcer {
    /// Ends a grant. What cannot be put back at once stays in the journal as ending, and is tried again.
    pub(super) fn end(&mut self, grant: GrantId, reason: EndReason, now_ms: u64) -> Outcome {
        let mut outcome = Outcome::default();
        if self.running_grant(&grant).is_err() {
            return outcome;
        }
        tracing::info!(%grant, ?reason, "a grant ends");
        self.journal.announce_undo(&[Record::Ending { grant, reason, boot_id: self.boot_id, at_ms: now_ms }]);
        self.shown.retain(|(shown, _), _| *shown != grant);
        self.waiting.remove(&grant);
        outcome.ended.push((grant, reason));
        if let Some(group) = self.group_of(&grant)
            && self.backend.has(&target_of(&group))
            && !self.backend.is_empty(&target_of(&group)).unwrap_or(false)
        {
            // Also where it cannot be told who is in it. First, so that nobody stays limited should the kernel hold on to the group.
            outcome.append(self.lift(grant, &group, now_ms));
        }
        self.take_down(grant);
        outcome
    }

    /// As [`Enforcer::end`], for a start: says that something was put back.
    pub(super) fn end_and_say_restored(&mut self, grant: GrantId, reason: EndReason, now_ms: u64) -> Outcome {
        let there = self.group_of(&grant).filter(|group| self.backend.has(&target_of(group)));
        let mut outcome = self.end(grant, reason, now_ms);
        outcome.events.extend(there.map(|group| happened(EventKind::Restored, &group, now_ms)));
        outcome
    }

    /// Tries some endings again that did not succeed at once, if it is time.
    pub(super) fn retry_endings(&mut self, now_ms: u64) {
        let ending = self.ending();
        if !ending.is_empty() && self.retry_at_ms <= now_ms {
            ending.into_iter().take(RETRIED_PER_TICK).for_each(|grant| self.take_down(grant));
            self.retry_at_ms = now_ms.saturating_add(RETRY_MS);
        }
    }

    /// Tries all endings again, now.
    pub(super) fn retry_all_endings(&mut self) {
        self.ending().into_iter().for_each(|grant| self.take_down(grant));
    }

    /// Grants that are over and of which something is left: it is tried again.
    pub fn ending(&self) -> Vec<GrantId> {
        let endings = self.journal.held().grants.iter().filter(|(_, held)| held.ending.is_some());
        endings.map(|(id, _)| *id).collect()
    }

    /// Removes the parent of our groups if the agent made it and nobody uses it.
    pub(super) fn remove_unused_parent(&mut self) {
        let held = self.journal.held();
        let used = held.grants.values().any(|held| held.group != GroupState::None);
        let Some(parent) = held.parent_made.as_ref().and_then(|parent| GroupPath::parse(parent.as_str())) else {
            return;
        };
        if used {
            return;
        }
        match self.backend.remove_parent(&parent) {
            Ok(()) => self.journal.conclude(&[Record::ParentRemoved]),
            Err(error) => tracing::debug!(%error, "the parent of our groups stays: it is in use"),
        }
    }

    fn lift(&mut self, grant: GrantId, group: &GroupPath, now_ms: u64) -> Outcome {
        let Some(held) = self.journal.held().grants.get(&grant) else { return Outcome::default() };
        let settings = baselines(held);
        self.put_back(grant, group, &settings, now_ms)
    }

    fn take_down(&mut self, grant: GrantId) {
        let Some(held) = self.journal.held().grants.get(&grant).cloned() else { return };
        if let Err(error) = self.clear(&held) {
            tracing::warn!(error = &error as &dyn std::error::Error, %grant, "a group is not gone yet, it is tried again");
            return;
        }
        self.journal.announce_undo(&[Record::Removed { grant }]);
    }

    fn clear(&mut self, held: &HeldGrant) -> Result<(), ShapeError> {
        let Some(group) = GroupPath::parse(held.cgroup.as_str()).filter(|_| held.group != GroupState::None) else {
            return Ok(());
        };
        let hierarchy = self.setup.hierarchy;
        let home = |pid: u32, mount: &Mount| home(&held.entries, &group, pid, mount, hierarchy);
        self.backend.take_down(&target_of(&group), &baselines(held), &yielded(held), &home)
    }
}

/// What stood there before: contested controls are the other writer's.
fn baselines(held: &HeldGrant) -> Vec<Setting> {
    let ours = held.written.iter().filter(|(_, written)| !written.contested);
    ours.filter_map(|(knob, written)| Some(Setting { knob: *knob, value: written.baseline.clone()? })).collect()
}

/// What we last set where another writer has changed it since.
fn yielded(held: &HeldGrant) -> Vec<Setting> {
    let theirs = held.written.iter().filter(|(_, written)| written.contested);
    theirs.map(|(knob, written)| Setting { knob: *knob, value: written.setpoint.clone() }).collect()
}

/// Where a process belongs: where it came from, or for those that were started inside, where the first came from.
fn home(entries: &[Entry], group: &GroupPath, pid: u32, mount: &Mount, hierarchy: Hierarchy) -> Option<GroupPath> {
    let own = entries.iter().find(|entry| entry.pid == pid);
    let entry = own.or_else(|| entries.first())?;
    let origin = process::origin_in(&entry.origins, mount, hierarchy)?;
    let inside = origin == *group || origin.as_str().starts_with(&format!("{group}/"));
    (!inside).then_some(origin)
}
