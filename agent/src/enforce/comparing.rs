//! Looking whether another writer changed what was written.

use std::ops::Bound;

use quotary_common::envelope::EventKind;
use quotary_common::id::GrantId;

use super::controls::Knob;
use super::enforcer::{Enforcer, Outcome, happened};
use super::held::{GroupState, Written};
use super::record::{EndReason, Record};
use crate::shape::holds::target_of;

/// Groups whose controls one tick compares with what was written: bounds a tick's time, covers all in turn.
const COMPARED_PER_TICK: usize = 16;

impl Enforcer {
    /// Compares the controls of some groups, in turn, with what was written there last.
    pub(super) fn compare_some(&mut self, now_ms: u64) -> Outcome {
        let held = self.journal.held();
        let from = self.compared.map_or(Bound::Unbounded, Bound::Excluded);
        let after = held.grants.range((from, Bound::Unbounded));
        let made = after.filter(|(_, held)| held.group == GroupState::Made && held.ending.is_none());
        let some: Vec<GrantId> = made.map(|(id, _)| *id).take(COMPARED_PER_TICK).collect();
        self.compared = if some.len() < COMPARED_PER_TICK { None } else { some.last().copied() };
        let mut outcome = Outcome::default();
        for grant in some {
            outcome.append(self.compare(grant, now_ms));
        }
        outcome
    }

    fn compare(&mut self, grant: GrantId, now_ms: u64) -> Outcome {
        let (Some(group), Ok(held)) = (self.group_of(&grant), self.running_grant(&grant)) else {
            return Outcome::default();
        };
        let target = target_of(&group);
        if !self.backend.has(&target) {
            return self.end(grant, EndReason::Vanished, now_ms);
        }
        let changed = |(knob, written): (&Knob, &Written)| {
            let last = written.actual.as_ref().filter(|_| written.ended && !written.contested)?;
            if self.is_left(&held.cgroup, *knob) {
                return None;
            }
            let found = self.backend.show(&target, *knob).ok().flatten()?;
            (found != *last).then_some((*knob, found))
        };
        let contested: Vec<_> = held.written.iter().filter_map(changed).collect();
        let mut outcome = Outcome::default();
        for (knob, found) in contested {
            let control = knob.control.file_name();
            tracing::warn!(%group, control, %found, "another writer changed this control: it is left to it");
            self.journal.announce_undo(&[Record::Contested { grant, knob }]);
            outcome.events.push(happened(EventKind::Contested, &group, now_ms));
        }
        outcome
    }
}
