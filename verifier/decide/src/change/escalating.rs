//! Whom a step of escalation tells: by the rules that the change's text was written under, and by those that it would put in force.

use quotary_common::id::ChangeId;
use quotary_common::quorum::decide::Proposed;
use quotary_common::quorum::rules::{Escalation, Rules};

use super::book::{Book, Kept};

impl Kept {
    /// What the rules say of a step of escalation, from 0. Where two rules have one at the same time, it is both of them.
    pub fn escalation(&self, step: u32) -> Vec<&Escalation> {
        let change = self.text.change();
        let at_ms = usize::try_from(step).ok().and_then(|step| self.record.escalate_at_ms.get(step));
        let next: Option<&Rules> = match &self.proposed {
            Some(Proposed::Rules(next)) => Some(next),
            _ => None,
        };
        let of_level = [Some(&*self.rules), next].into_iter().flatten().map(|rules| rules.rule(change.criticality));
        of_level
            .flat_map(|rule| &rule.escalation)
            .filter(|one| Some(&change.proposed_ms.saturating_add(one.after_ms)) == at_ms)
            .collect()
    }
}

impl Book {
    /// The steps of escalation that were taken of what is still open: whoever was stopped between taking and telling them tells them again.
    pub fn escalated(&self) -> impl Iterator<Item = (ChangeId, u32)> + '_ {
        let open = self.changes.iter().filter(|(_, kept)| kept.record.state.is_open());
        open.flat_map(|(id, kept)| (0..kept.record.escalated).map(|step| (*id, step)))
    }
}
