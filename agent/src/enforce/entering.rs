//! Moving a process into the group of its grant.

use quotary_common::envelope::Mode;
use quotary_common::id::GrantId;
use quotary_common::plan::Target;

use super::enforcer::{Enforcer, Outcome};
use super::error::EnforceError;
use super::group::GroupPath;
use super::held::GroupState;
use super::probe::Mount;
use super::process;
use super::record::{Entry, Origin, Record};
use crate::shape::above::{Above, TurnedOnBy};
use crate::shape::holds::{is_scope, target_of};

impl Enforcer {
    /// Moves process `pid`, which started at `start_time_ticks` (field 22 of its stat file), into the group of
    /// `grant`. Who may ask that is the caller's to check; here it is made sure that the process moved is the
    /// one that asked, and still `asker`'s (its real uid). Where nothing is enforced, it is only remembered who runs under
    /// the grant. Where systemd owns the tree, the first process brings its scope about, and then the grant's values are set.
    ///
    /// # Errors
    /// [`EnforceError`] when the grant is not held or its lease is over, the process is gone or another, or the
    /// kernel refuses; the process is then where it was.
    pub fn enter(
        &mut self,
        grant: &GrantId,
        pid: u32,
        start_time_ticks: u64,
        asker: u32,
        now_ms: u64,
    ) -> Result<Outcome, EnforceError> {
        let epoch = self.journal.held().epoch;
        let held = self.running_grant(grant)?;
        if !held.lease.is_running(self.boot_id, epoch, now_ms) {
            return Err(EnforceError::LeaseOver { grant: *grant });
        }
        let enforced = self.setup.mode == Mode::Enforce;
        let group = GroupPath::parse(held.cgroup.as_str());
        // A scope comes about with its first process.
        let group = group.filter(|group| held.group == GroupState::Made || is_scope(group));
        let known = held.entries.iter().any(|entry| entry.pid == pid && entry.start_time_ticks == start_time_ticks);
        let is_first = held.group == GroupState::None;
        if enforced && group.is_none() {
            return Err(EnforceError::NoGroup { grant: *grant });
        }
        self.check_process(pid, start_time_ticks, asker)?;
        let mut records = Vec::new();
        if enforced && is_first {
            records.push(Record::Making { grant: *grant });
        }
        if !known {
            let (uid, origins) = (process::uid(&self.root, pid), process::origins(&self.root, pid));
            let entry = Entry { pid, start_time_ticks, uid, origins };
            records.push(Record::Entering { grant: *grant, entry });
        }
        if !records.is_empty() {
            self.journal.announce(&records).map_err(EnforceError::Journal)?;
        }
        let Some(group) = group.filter(|_| enforced) else { return Ok(Outcome::default()) };
        // Journaling took its time: once more, just before the move.
        if let Err(error) = self.check_process(pid, start_time_ticks, asker) {
            if !known {
                self.journal.conclude(&[Record::NotEntered { grant: *grant, pid }]);
            }
            return Err(error);
        }
        let target = target_of(&group);
        let above = self.backend.above(&target);
        if let Err(source) = self.backend.enter(&target, pid, &self.about(grant)) {
            let origins = self.origins_of(grant, pid);
            self.take_back(grant, &target, pid, &origins);
            return Err(EnforceError::Enter { grant: *grant, pid, source: Box::new(source) });
        }
        // The pid may have been given to another process between the check and the move.
        if let Err(error) = self.check_process(pid, start_time_ticks, asker) {
            // Whoever has it now started where its parent is.
            let origins =
                process::parent(&self.root, pid).map(|parent| process::origins(&self.root, parent)).unwrap_or_default();
            self.take_back(grant, &target, pid, &origins);
            return Err(error);
        }
        tracing::info!(%grant, %group, pid, "a process entered its group");
        Ok(self.entered(*grant, &target, &above, now_ms))
    }

    /// What the first process brings about in a scope: its values, which waited for it, now that it is sure who is in it.
    fn entered(&mut self, grant: GrantId, target: &Target, above: &Above, now_ms: u64) -> Outcome {
        let mut outcome = Outcome::default();
        let Ok(held) = self.running_grant(&grant) else { return outcome };
        if held.group == GroupState::Made {
            return outcome;
        }
        let from_journal = || held.owner.as_ref().map(|owner| self.setup.wanted(owner.class, &owner.resources));
        let settings = self.waiting.get(&grant).cloned().or_else(from_journal).unwrap_or_default();
        self.journal.conclude(&[Record::Made { grant }]);
        match self.set(grant, &settings, now_ms) {
            Ok(written) => outcome.append(written),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, %grant, "the values of a grant were not set");
                self.waiting.insert(grant, settings);
            }
        }
        let by = TurnedOnBy { plan: None, backend: self.backend.kind_of(target), at_ms: now_ms };
        outcome.writes.extend(above.turned_on(self.backend.above(target), by));
        outcome
    }

    /// What a scope is called for people.
    fn about(&self, grant: &GrantId) -> String {
        let owner = self.running_grant(grant).ok().and_then(|held| held.owner.as_ref());
        let whose = owner.map(|owner| format!(" ({} of {})", owner.application, owner.tenant)).unwrap_or_default();
        format!("Quotary grant {grant}{whose}")
    }

    fn check_process(&self, pid: u32, expected: u64, asker: u32) -> Result<(), EnforceError> {
        // The uid first: the start time then says that it was this process's.
        let uid = process::real_uid(&self.root, pid);
        match process::start_time_ticks(&self.root, pid) {
            Ok(Some(found)) if found == expected => match uid {
                Ok(Some(found)) if found == asker => Ok(()),
                Ok(Some(found)) => Err(EnforceError::OtherOwner { pid, expected: asker, found }),
                Ok(None) => Err(EnforceError::NoProcess { pid }),
                Err(source) => Err(EnforceError::Process { pid, source }),
            },
            Ok(Some(found)) => Err(EnforceError::OtherProcess { pid, expected, found }),
            Ok(None) => Err(EnforceError::NoProcess { pid }),
            Err(source) => Err(EnforceError::Process { pid, source }),
        }
    }

    fn origins_of(&self, grant: &GrantId, pid: u32) -> Vec<Origin> {
        let entries = self.journal.held().grants.get(grant).map(|held| held.entries.as_slice()).unwrap_or_default();
        entries.iter().find(|entry| entry.pid == pid).map(|entry| entry.origins.clone()).unwrap_or_default()
    }

    fn take_back(&mut self, grant: &GrantId, target: &Target, pid: u32, origins: &[Origin]) {
        let hierarchy = self.setup.hierarchy;
        let home = |_: u32, mount: &Mount| process::origin_in(origins, mount, hierarchy);
        if let Err(error) = self.backend.take_back(target, pid, &home) {
            tracing::warn!(error = &error as &dyn std::error::Error, pid, "a process was not taken back");
        }
        self.journal.conclude(&[Record::NotEntered { grant: *grant, pid }]);
    }
}
