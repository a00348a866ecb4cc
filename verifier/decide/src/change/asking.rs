//! What people ask for: propose, edit, vote, take back.

use std::sync::Arc;

use quotary_common::id::{ChangeId, Digest};
use quotary_common::quorum::change::Way;
use quotary_common::quorum::decide::{Moment, ReviewState, review};
use quotary_common::quorum::freeze::held_by;
use quotary_common::quorum::roster::Word;
use quotary_common::quorum::vote::{Ballot, Cast, CheckedVote, Verb, Vote};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::ChangeSubject;

use super::book::{Book, Effect, Kept, World, refuse};
use super::drive::{edit_of, fault_of};
use super::making::{Asked, Made};
use crate::policy::life::{self, Input, State};

/// Changes that are open, approved or moving, at most. Emergencies, rosters and rules are let in beyond: nobody is kept from them by a crowd.
const OPEN_MAX: usize = 1_024;
/// The same that one person has asked for.
const OPEN_OF_ONE_MAX: usize = 64;

impl Book {
    /// Somebody proposes a change.
    ///
    /// # Errors
    /// `malformed` with the document's faults; `change` with what stands against it; `not-found` for what it would revoke; `busy` when too
    /// many changes are open.
    pub fn propose(&mut self, asked: &Asked<'_>, world: &World<'_>) -> Result<Vec<Effect>, Refusal> {
        let is_open = |kept: &&Arc<Kept>| !kept.record.state.is_over() && kept.record.state != State::InForce;
        let open = self.changes.values().filter(is_open);
        let (own, others): (Vec<_>, Vec<_>) = open.partition(|kept| kept.text.change().requester == *asked.by);
        if own.len() >= OPEN_OF_ONE_MAX {
            let why = format!("{} changes that `{}` asked for are open already: take some back", own.len(), asked.by);
            return Err(Refusal::new(Reason::Busy, why));
        }
        let open = own.len() + others.len();
        let is_urgent =
            asked.way != Way::Quorum || matches!(asked.subject, ChangeSubject::Roster(_) | ChangeSubject::Rules(_));
        if open >= OPEN_MAX && !is_urgent {
            return Err(Refusal::new(Reason::Busy, format!("{open} changes are open already: decide on some first")));
        }
        let made = self.make(asked, asked.by, world)?;
        let governing = self.decides()?;
        let (roster, rules) = (Arc::clone(governing.roster()), Arc::clone(governing.rules()));
        let Made { text, times, proposed, impact, escalate_after_ms } = made;
        let what = (text.change().kind, text.change().name.clone());
        let by = asked.by.clone();
        let begun = life::propose(what, by, text.digest(), times, &escalate_after_ms, world.now_ms);
        let (record, follows) = begun.map_err(|fault| fault_of(&fault))?;
        let kept = Kept {
            edit: edit_of(&text),
            holds: held_by(text.change()),
            record,
            text,
            ballot: Ballot::default(),
            checked: Vec::new(),
            roster,
            rules,
            proposed,
            impact,
            decision: None,
            outcome: None,
            before: None,
        };
        self.changes.insert(asked.id, Arc::new(kept));
        Ok(self.drive(asked.id, follows, world))
    }

    /// Somebody edits a change: another text; what was approved is dismissed.
    ///
    /// # Errors
    /// As [`Book::propose`]; `change` when it cannot be edited any more, or would be for something else; `forbidden` for others than its requester and,
    /// until it is approved, those who may approve it.
    pub fn edit(&mut self, asked: &Asked<'_>, world: &World<'_>) -> Result<Vec<Effect>, Refusal> {
        let id = asked.id;
        let requester = self.may_edit(&id, asked.by)?;
        let made = self.make(asked, &requester, world)?;
        let governing = self.decides()?;
        let (roster, rules) = (Arc::clone(governing.roster()), Arc::clone(governing.rules()));
        let kept = self.change_mut(&id)?;
        let (old, new) = (kept.text.change(), made.text.change());
        if (old.kind, &old.name, old.way) != (new.kind, &new.name, new.way) {
            return Err(refuse("an edit is for the same policy, in the same way: propose another change"));
        }
        let (text, times, escalate_after_ms) = (made.text.digest(), made.times, made.escalate_after_ms.clone());
        let edited = Input::Edited { by: asked.by.clone(), text, times, escalate_after_ms };
        let (record, follows) = life::step(&kept.record, edited, world.now_ms).map_err(|fault| fault_of(&fault))?;
        let Made { text, proposed, impact, .. } = made;
        (kept.record, kept.text, kept.proposed, kept.impact) = (record, text, proposed, impact);
        (kept.roster, kept.rules, kept.decision, kept.outcome) = (roster, rules, None, None);
        (kept.edit, kept.holds) = (edit_of(&kept.text), held_by(kept.text.change()));
        Ok(self.drive(id, follows, world))
    }

    /// The requester of a change that somebody may edit: it is the requester's, and of those whom its rule asks as long as it is open. An edit voids
    /// what was approved.
    fn may_edit(&self, id: &ChangeId, by: &Word) -> Result<Word, Refusal> {
        let (governing, kept) = (self.decides()?, self.change(id)?);
        let change = kept.text.change();
        let rule = governing.rules().rule(change.criticality);
        let person = governing.roster().person(by);
        let is_asked = person.is_some_and(|person| !rule.approvers.is_disjoint(&person.roles));
        if *by == change.requester || is_asked && kept.record.state.is_open() {
            return Ok(change.requester.clone());
        }
        let why = format!(
            "`{}` asked for it: others edit it who may approve it, and until it is approved; reject it, or propose another",
            change.requester
        );
        Err(Refusal::new(Reason::Forbidden, why))
    }

    /// A vote came whose signature holds. The same one again changes nothing.
    ///
    /// # Errors
    /// `not-found`; `change` when votes are not taken any more; `busy` when too many came.
    pub fn cast(
        &mut self,
        id: ChangeId,
        vote: Vote,
        checked: CheckedVote,
        world: &World<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        let kept = self.change_mut(&id)?;
        match kept.ballot.would(&vote) {
            Cast::Again => return Ok(Vec::new()),
            Cast::Full => return Err(Refusal::new(Reason::Busy, "so many people have voted on this text already")),
            Cast::Kept => {}
        }
        let (verb, text) = (vote.verb, vote.text);
        let is_own = |other: &Vote| (&other.person, other.text) == (&vote.person, text);
        if verb == Verb::Withdrawal && !kept.ballot.votes().iter().any(is_own) {
            return Err(refuse(format!("`{}` has no vote on this text to take back", vote.person)));
        }
        if verb == Verb::Review {
            return self.cast_review(id, vote, checked, world);
        }
        let (record, follows) =
            life::step(&kept.record, Input::Voted { text }, world.now_ms).map_err(|fault| fault_of(&fault))?;
        kept.record = record;
        keep(kept, vote, checked);
        let mut effects = self.drive(id, follows, world);
        if effects.is_empty() {
            effects.push(Effect::Change(id));
        }
        Ok(effects)
    }

    /// Somebody has looked at what was done in an emergency.
    fn cast_review(
        &mut self,
        id: ChangeId,
        vote: Vote,
        checked: CheckedVote,
        world: &World<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        let kept = self.change_mut(&id)?;
        let was_in_force = matches!(kept.record.state, State::InForce | State::Revoked);
        if kept.record.times.emergency.is_none() || !was_in_force {
            return Err(refuse("what is reviewed is an emergency or a freeze that was in force"));
        }
        keep(kept, vote, checked);
        let kept = self.change(&id)?;
        let approved_at_ms = kept.record.approved_at_ms.unwrap_or_default();
        let case = self.case(kept, Moment::Apply { approved_at_ms }, world.now_ms);
        let is_done = case.is_some_and(|case| review(&case) == ReviewState::Done);
        let is_waiting = !matches!(kept.record.reviewed, Some(life::Reviewed::InTime | life::Reviewed::Late));
        let mut effects = vec![Effect::Change(id)];
        if is_done && is_waiting {
            effects.extend(self.step(id, Input::Reviewed, world)?);
            // What waited for this alone has its quorum asked again.
            let waits = |kept: &Kept| kept.record.state == State::Approving && kept.record.times.emergency.is_some();
            let waiting = self.changes.iter().filter(|(_, kept)| waits(kept));
            let waiting: Vec<(ChangeId, Digest)> = waiting.map(|(id, kept)| (*id, kept.record.text)).collect();
            for (other, text) in waiting {
                effects.extend(self.step(other, Input::Voted { text }, world).unwrap_or_default());
            }
        }
        Ok(effects)
    }

    /// Whoever asked for a change takes it back.
    ///
    /// # Errors
    /// `not-found`; `change` when it is too late; `forbidden` when somebody else asked for it.
    pub fn withdraw(&mut self, id: ChangeId, by: &Word, world: &World<'_>) -> Result<Vec<Effect>, Refusal> {
        let change = self.change(&id)?.text.change();
        if *by != change.requester {
            let why = format!("`{}` asked for it: only who did takes it back; others reject it", change.requester);
            return Err(Refusal::new(Reason::Forbidden, why));
        }
        self.step(id, Input::Withdrawn { by: by.clone() }, world)
    }
}

fn keep(kept: &mut Kept, vote: Vote, checked: CheckedVote) {
    let _kept = kept.ballot.cast(vote);
    kept.checked.push(checked);
}
