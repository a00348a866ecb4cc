//! Freezes: one operator holds a change where its plans are, for a time (design §8).
//!
//! A freeze is a change of its own, with a text, an approval and a review; what it puts in force is that another one stands still.
//! Limits stay between what was and what was decided to be, so that the decision of the change that is held covers them.

use quotary_common::id::{ChangeId, Digest};
use quotary_common::quorum::change::Way;
use quotary_common::quorum::criticality::Criticality;
use quotary_common::quorum::freeze;
use quotary_common::quorum::roster::Word;
use quotary_common::reason::{Reason, Refusal};

use super::book::{Book, Kept, refuse};
use crate::policy::life::{Reviewed, State};

/// A freeze that is asked for.
pub(super) struct Frozen {
    /// The name of the policy whose change is held.
    pub(super) name: Word,
    /// Its criticality.
    pub(super) criticality: Criticality,
    /// SHA-256 of its text: edited away, it is another one.
    pub(super) text: Digest,
    /// What the freeze's text has in the place of a policy.
    pub(super) document: String,
    /// What it would do, line by line.
    pub(super) impact: Vec<String>,
}

/// Whether a change moves, or is about to: then it can be held.
fn can_be_held(kept: &Kept) -> bool {
    matches!(kept.record.state, State::Approved | State::Shaping) && kept.record.moves_limits() && kept.holds.is_none()
}

impl Kept {
    /// What it does, in words: `freeze`, or its kind's.
    pub fn kind_name(&self) -> &'static str {
        if self.holds.is_some() { Way::Freeze.name() } else { self.record.kind.name() }
    }

    /// Where it stands, in words. A freeze that is over was revoked by nobody.
    pub fn state_name(&self) -> &'static str {
        self.name_of(self.record.state)
    }

    /// The same of a state that it has or had.
    pub fn name_of(&self, state: State) -> &'static str {
        if self.holds.is_some() && state == State::Revoked { "ended" } else { state.name() }
    }
}

impl Book {
    /// What a freeze of the change of this name would be.
    ///
    /// # Errors
    /// `not-found`; `change` when it does not move, is held already, or when an emergency before was not reviewed in time.
    pub(super) fn frozen(&self, named: &str) -> Result<Frozen, Refusal> {
        let known = named.parse().ok().or_else(|| self.changes.keys().find(|id| id.is_named(named)).copied());
        let id = known.ok_or_else(|| Refusal::new(Reason::NotFound, "no change of this name is there to be held"))?;
        let kept = self.change(&id)?;
        if !can_be_held(kept) {
            let state = kept.state_name();
            return Err(refuse(format!(
                "it is {state}: only what is approved and not in force yet is held where it is"
            )));
        }
        if let Some(until_ms) = self.held_until_ms(&id) {
            let until = quotary_common::instant::rfc3339(until_ms);
            return Err(refuse(format!("it is held already, until {until}")));
        }
        let overdue = self.changes.iter().find(|(_, other)| other.record.reviewed == Some(Reviewed::Overdue));
        if let Some((other, _)) = overdue {
            return Err(refuse(format!(
                "an emergency or a freeze was not reviewed in time: `quotary change review {other}` first"
            )));
        }
        let change = kept.text.change();
        Ok(Frozen {
            name: change.name.clone(),
            criticality: change.criticality,
            text: kept.record.text,
            document: freeze::document(&id),
            impact: vec![
                format!("change {id} of `{}` stands still: its limits stay where they are then", change.name),
                "until the freeze ends it does not come into force; past its apply-by time it expires".to_owned(),
            ],
        })
    }

    /// SHA-256 of the text that a freeze holds, while that is there to be held.
    pub(super) fn text_held(&self, id: &ChangeId) -> Option<Digest> {
        self.changes.get(id).filter(|kept| can_be_held(kept)).map(|kept| kept.record.text)
    }

    /// Until when a change is held, Unix ms; `None`: nobody holds it.
    pub fn held_until_ms(&self, id: &ChangeId) -> Option<u64> {
        let holding = self.freezes_of(id).filter(|freeze| freeze.record.state == State::InForce);
        holding.filter_map(|freeze| freeze.text.change().until_ms).max()
    }

    /// Whether what was planned for a change at `made_at_ms` (Unix ms) only holds it where it was.
    pub fn is_of_freeze(&self, id: &ChangeId, made_at_ms: u64) -> bool {
        self.freezes_of(id).any(|freeze| {
            let record = &freeze.record;
            match record.state {
                State::InForce => record.since_ms <= made_at_ms,
                // When it began is not kept any more: what was made on its eve is made anew once more.
                State::Revoked => {
                    made_at_ms <= record.since_ms && record.approved_at_ms.is_some_and(|at_ms| at_ms <= made_at_ms)
                }
                _ => false,
            }
        })
    }

    /// Whether a freeze that is kept was for a change.
    pub fn was_held(&self, id: &ChangeId) -> bool {
        self.frozen.contains(id)
    }

    fn freezes_of<'a>(&'a self, id: &'a ChangeId) -> impl Iterator<Item = &'a Kept> {
        // Most were never held, and that is asked often.
        let all = self.frozen.contains(id).then(|| self.changes.values()).into_iter().flatten();
        all.map(|kept| &**kept).filter(move |kept| kept.holds == Some(*id))
    }
}
