//! Moving a process into the group of its grant.

use quotary_common::envelope::Mode;
use quotary_common::id::GrantId;

use super::enforcer::Enforcer;
use super::error::EnforceError;
use super::group::GroupPath;
use super::held::GroupState;
use super::process;
use super::record::{Entry, Origin, Record};

impl Enforcer {
    /// Moves process `pid`, which started at `start_time_ticks` (field 22 of its stat file), into the group of
    /// `grant`. Who may ask that is the caller's to check; here it is made sure that the process moved is the
    /// one that asked, and still `asker`'s (its real uid). Where nothing is enforced, it is only remembered who runs under the grant.
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
    ) -> Result<(), EnforceError> {
        let epoch = self.journal.held().epoch;
        let held = self.running_grant(grant)?;
        if !held.lease.is_running(self.boot_id, epoch, now_ms) {
            return Err(EnforceError::LeaseOver { grant: *grant });
        }
        let enforced = self.setup.mode == Mode::Enforce;
        let group = GroupPath::parse(held.cgroup.as_str()).filter(|_| held.group == GroupState::Made);
        let known = held.entries.iter().any(|entry| entry.pid == pid && entry.start_time_ticks == start_time_ticks);
        if enforced && group.is_none() {
            return Err(EnforceError::NoGroup { grant: *grant });
        }
        self.check_process(pid, start_time_ticks, asker)?;
        if !known {
            let (uid, origins) = (process::uid(&self.root, pid), process::origins(&self.root, pid));
            let entry = Entry { pid, start_time_ticks, uid, origins };
            self.journal.announce(&[Record::Entering { grant: *grant, entry }]).map_err(EnforceError::Journal)?;
        }
        let Some(group) = group.filter(|_| enforced) else { return Ok(()) };
        // Journaling took its time: once more, just before the move.
        if let Err(error) = self.check_process(pid, start_time_ticks, asker) {
            if !known {
                self.journal.conclude(&[Record::NotEntered { grant: *grant, pid }]);
            }
            return Err(error);
        }
        if let Err(source) = self.direct.attach(&group, pid) {
            let origins = self.origins_of(grant, pid);
            self.take_back(grant, pid, &origins);
            return Err(EnforceError::Enter { grant: *grant, pid, source: Box::new(source) });
        }
        // The pid may have been given to another process between the check and the move.
        if let Err(error) = self.check_process(pid, start_time_ticks, asker) {
            // Whoever has it now started where its parent is.
            let origins =
                process::parent(&self.root, pid).map(|parent| process::origins(&self.root, parent)).unwrap_or_default();
            self.take_back(grant, pid, &origins);
            return Err(error);
        }
        tracing::info!(%grant, %group, pid, "a process entered its group");
        Ok(())
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

    fn take_back(&mut self, grant: &GrantId, pid: u32, origins: &[Origin]) {
        let hierarchy = self.setup.hierarchy;
        let home = |mount: &_| process::origin_in(origins, mount, hierarchy);
        if let Err(error) = self.direct.attach_home(pid, home) {
            tracing::warn!(error = &error as &dyn std::error::Error, pid, "a process was not moved back");
        }
        self.journal.conclude(&[Record::NotEntered { grant: *grant, pid }]);
    }
}
