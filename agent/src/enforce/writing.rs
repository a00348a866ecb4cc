//! Making a grant's group and writing its controls.

use quotary_common::cbor::Text;
use quotary_common::envelope::{CgroupPath, ControlValue, EnforcementWrite, Mode, Support};
use quotary_common::id::GrantId;

use super::controls::{Knob, Setting, agrees};
use super::direct::is_enabled;
use super::enforcer::{Enforcer, Outcome};
use super::error::EnforceError;
use super::group::GroupPath;
use super::held::GroupState;
use super::record::Record;
use crate::shape::holds::{Made, is_scope, target_of};

impl Enforcer {
    /// Makes the group of a grant. That the kernel refuses is logged, and tried again with the next set.
    pub(super) fn make(&mut self, grant: GrantId, now_ms: u64) -> Result<Outcome, EnforceError> {
        let Some(group) = self.group_of(&grant).filter(|_| self.setup.mode == Mode::Enforce) else {
            return Ok(Outcome::default());
        };
        let target = target_of(&group);
        if is_scope(&group) && !self.backend.has(&target) {
            // It comes about when the first process enters.
            return Ok(Outcome::default());
        }
        let outcome = if is_scope(&group) { Outcome::default() } else { self.prepare_parent(now_ms)? };
        self.journal.announce(&[Record::Making { grant }]).map_err(EnforceError::Journal)?;
        match self.backend.make(&target) {
            Ok(Made::Now) => self.journal.conclude(&[Record::Made { grant }]),
            Ok(Made::WithFirst) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, %group, "the group was not made");
            }
        }
        Ok(outcome)
    }

    /// Makes the parent of our groups, and on version 2 enables the controllers along our path.
    fn prepare_parent(&mut self, now_ms: u64) -> Result<Outcome, EnforceError> {
        let parent = self.setup.parent.clone();
        let mut outcome = Outcome::default();
        // One that is there is an administrator's, or another agent's: whoever made it removes it.
        let target = target_of(&parent);
        let ours = !self.backend.has(&target);
        if ours && self.journal.held().parent_made.as_ref() != Some(parent.as_cgroup()) {
            let record = Record::Preparing { parent: parent.as_cgroup().clone(), made: true };
            self.journal.announce(&[record]).map_err(EnforceError::Journal)?;
        }
        // The root's first: only then the parent is offered controllers to pass on.
        self.enable(&parent, &mut outcome, now_ms)?;
        if let Err(error) = self.backend.make(&target) {
            tracing::warn!(error = &error as &dyn std::error::Error, %parent, "the parent group was not made");
            return Ok(outcome);
        }
        self.enable(&parent, &mut outcome, now_ms)?;
        Ok(outcome)
    }

    fn enable(&mut self, parent: &GroupPath, outcome: &mut Outcome, now_ms: u64) -> Result<(), EnforceError> {
        for enabling in self.backend.to_enable(parent) {
            let cgroup = enabling.at.as_ref().map_or_else(|| CgroupPath::lossy("/"), |at| at.as_cgroup().clone());
            let (before, after) = (enabling.before.clone(), enabling.after.clone());
            self.journal
                .announce(&[Record::Enabling { cgroup: cgroup.clone(), before: before.clone(), after: after.clone() }])
                .map_err(EnforceError::Journal)?;
            tracing::warn!(%cgroup, controllers = %after, "enabling controllers: siblings there are scheduled by group from now on");
            let actual = self.backend.enable(&enabling).unwrap_or_else(|error| {
                tracing::warn!(error = &error as &dyn std::error::Error, "controllers were not enabled");
                None
            });
            let found: Vec<String> =
                actual.iter().flat_map(|value| value.as_str().split(' ')).map(str::to_owned).collect();
            let effective = after.as_str().split(' ').all(|name| is_enabled(&found, name.trim_start_matches('+')));
            outcome.writes.push(EnforcementWrite {
                plan: None,
                grant: None,
                cgroup,
                backend: self.kind(),
                control: Text::lossy("cgroup.subtree_control"),
                before: Some(before),
                after,
                actual,
                effective,
                at_ms: now_ms,
                dry_run: false,
            });
        }
        Ok(())
    }

    /// Writes controls in a grant's group: old values and intent journaled first, read back after.
    pub(super) fn set(&mut self, grant: GrantId, settings: &[Setting], now_ms: u64) -> Result<Outcome, EnforceError> {
        let Some(group) = self.group_of(&grant) else { return Ok(Outcome::default()) };
        if self.setup.mode != Mode::Enforce {
            return Ok(self.show(grant, &group, settings, now_ms));
        }
        let made = self.running_grant(&grant).is_ok_and(|held| held.group == GroupState::Made);
        let target = target_of(&group);
        let (now, later): (Vec<Setting>, Vec<Setting>) = settings.iter().cloned().partition(|setting| {
            made && !self.is_left(group.as_cgroup(), setting.knob) && self.backend.is_ready(&target, setting)
        });
        if later.is_empty() {
            self.waiting.remove(&grant);
        } else {
            self.waiting.insert(grant, later);
        }
        if now.is_empty() {
            return Ok(Outcome::default());
        }
        let writing: Vec<Record> = now.iter().map(|setting| self.intent(grant, &group, setting)).collect();
        self.journal.announce(&writing).map_err(EnforceError::Journal)?;
        Ok(self.write_announced(grant, &group, &now, now_ms))
    }

    /// Sets what had to wait, as far as it need not any more.
    pub(super) fn set_what_waits(&mut self, now_ms: u64) -> Outcome {
        let mut outcome = Outcome::default();
        for (grant, settings) in self.waiting.clone() {
            match self.set(grant, &settings, now_ms) {
                Ok(written) => outcome.append(written),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, %grant, "values that waited were not set");
                }
            }
        }
        outcome
    }

    /// Puts controls back, journaled if the disk lets us.
    pub(super) fn put_back(&mut self, grant: GrantId, group: &GroupPath, settings: &[Setting], now_ms: u64) -> Outcome {
        let writing: Vec<Record> = settings.iter().map(|setting| self.intent(grant, group, setting)).collect();
        self.journal.announce_undo(&writing);
        self.write_announced(grant, group, settings, now_ms)
    }

    fn intent(&self, grant: GrantId, group: &GroupPath, setting: &Setting) -> Record {
        let before = self.backend.show(&target_of(group), setting.knob).unwrap_or_else(|error| {
            tracing::debug!(error = &error as &dyn std::error::Error, "a control cannot be read");
            None
        });
        Record::Writing { grant, knob: setting.knob, before, after: setting.value.clone() }
    }

    fn write_announced(&mut self, grant: GrantId, group: &GroupPath, settings: &[Setting], now_ms: u64) -> Outcome {
        let mut outcome = Outcome::default();
        let mut wrote = Vec::new();
        let target = target_of(group);
        for setting in settings {
            let (knob, value) = (setting.knob, &setting.value);
            if let Err(error) = self.backend.set(&target, setting) {
                tracing::warn!(error = &error as &dyn std::error::Error, %value, "a control was refused");
                if error.is_away() && self.running_grant(&grant).is_ok() {
                    // Left open: it is tried again each second.
                    self.waiting.entry(grant).or_default().push(setting.clone());
                    continue;
                }
            }
            let actual = self.backend.show(&target, knob).ok().flatten();
            wrote.push(Record::Wrote { grant, knob, actual: actual.clone() });
            outcome.writes.extend(self.report(grant, group, knob, actual, now_ms));
        }
        self.journal.conclude(&wrote);
        outcome
    }

    /// Reads back what a crash left open, and reports it: the write may have been done or not.
    pub(super) fn finish_writes(&mut self, grant: GrantId, now_ms: u64) -> Outcome {
        let mut outcome = Outcome::default();
        let (Some(group), Ok(held)) = (self.group_of(&grant), self.running_grant(&grant)) else { return outcome };
        let open: Vec<Knob> =
            held.written.iter().filter(|(_, written)| !written.ended).map(|(knob, _)| *knob).collect();
        let mut wrote = Vec::new();
        for knob in open {
            let actual = self.backend.show(&target_of(&group), knob).ok().flatten();
            outcome.writes.extend(self.report(grant, &group, knob, actual.clone(), now_ms));
            let setpoint = self.running_grant(&grant).ok().and_then(|held| held.written.get(&knob));
            let stands = setpoint
                .zip(actual.as_ref())
                .is_some_and(|(written, actual)| agrees(knob.control, written.setpoint.as_str(), actual.as_str()));
            // One that does not stand stays open: the next set writes it again.
            if stands {
                wrote.push(Record::Wrote { grant, knob, actual });
            }
        }
        if !wrote.is_empty() {
            self.journal.conclude(&wrote);
        }
        outcome
    }

    /// A write as the envelope reports it, with what was read back.
    fn report(
        &self,
        grant: GrantId,
        group: &GroupPath,
        knob: Knob,
        actual: Option<ControlValue>,
        now_ms: u64,
    ) -> Option<EnforcementWrite> {
        let written = self.journal.held().grants.get(&grant)?.written.get(&knob)?;
        let acted_upon = self.capabilities.support(knob.control) == Support::Effective;
        let stands = actual.as_ref().is_some_and(|actual| {
            agrees(knob.control, written.setpoint.as_str(), actual.as_str())
                && !self.backend.is_bounded_above(&target_of(group), knob, actual)
        });
        Some(EnforcementWrite {
            plan: None,
            grant: Some(grant),
            cgroup: group.as_cgroup().clone(),
            backend: self.kind_of(group),
            control: Text::lossy(knob.control.file_name()),
            before: written.before.clone(),
            after: written.setpoint.clone(),
            actual,
            effective: acted_upon && stands,
            at_ms: now_ms,
            dry_run: false,
        })
    }

    /// Shows what would be written, each value once.
    fn show(&mut self, grant: GrantId, group: &GroupPath, settings: &[Setting], now_ms: u64) -> Outcome {
        let mut outcome = Outcome::default();
        for Setting { knob, value } in settings {
            if self.shown.insert((grant, *knob), value.clone()).as_ref() == Some(value) {
                continue;
            }
            tracing::info!(%group, control = knob.control.file_name(), %value, "dry run: would write");
            outcome.writes.push(EnforcementWrite {
                plan: None,
                grant: Some(grant),
                cgroup: group.as_cgroup().clone(),
                backend: self.kind_of(group),
                control: Text::lossy(knob.control.file_name()),
                before: None,
                after: value.clone(),
                actual: None,
                effective: false,
                at_ms: now_ms,
                dry_run: true,
            });
        }
        outcome
    }
}
