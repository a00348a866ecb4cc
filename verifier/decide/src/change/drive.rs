//! What follows from what happens: each step of a change's life, the quorum asked where it is due, documents put in force.

use std::collections::VecDeque;
use std::sync::Arc;

use quotary_common::envelope::Name;
use quotary_common::id::{ChangeId, Digest};
use quotary_common::quorum::change::{ChangeText, Kind, Way};
use quotary_common::quorum::decide::{BaseNow, Case, Moment, Outcome, Under, decide};
use quotary_common::quorum::decision::QuorumDecision;
use quotary_common::quorum::freeze::held_by;
use quotary_common::reason::Refusal;

use super::book::{Book, Effect, InForce, Kept, Moved, World, refuse};
use crate::policy::life::{self, Ask, Follows, Input, LifeFault, Record, Reviewed, State};
use crate::policy::{self, Edit};

/// How long a change that is over is kept, ms: a year.
const KEEP_MS: u64 = 366 * 86_400_000;

impl Book {
    /// Whether time alone moves any change now: then a [`World`] is worth making.
    pub fn is_due(&self, now_ms: u64) -> bool {
        let moves =
            |kept: &Kept| life::step(&kept.record, Input::Tick, now_ms).is_ok_and(|(_, follows)| !follows.is_empty());
        let is_due = |id: &ChangeId, kept: &Kept| !self.stands_still(id, now_ms) && moves(kept);
        self.changes.iter().any(|(id, kept)| is_due(id, kept) || self.is_old(id, kept, now_ms))
    }

    /// Whether a change is held where it is: for it time stands still, but for its apply-by time.
    fn stands_still(&self, id: &ChangeId, now_ms: u64) -> bool {
        self.held_until_ms(id).is_some()
            && self.changes.get(id).is_some_and(|kept| now_ms <= kept.record.times.apply_by_ms)
    }

    /// Whether a change has been over for so long that nobody looks at it any more, and nothing rests on it.
    fn is_old(&self, id: &ChangeId, kept: &Kept, now_ms: u64) -> bool {
        let record = &kept.record;
        record.state.is_over()
            && record.since_ms.saturating_add(KEEP_MS) < now_ms
            && record.reviewed != Some(Reviewed::Overdue)
            && !self.policies.values().any(|held| held.change == *id)
    }

    /// Time goes by.
    pub fn tick(&mut self, world: &World<'_>) -> Vec<Effect> {
        let ids: Vec<ChangeId> = self.changes.keys().copied().collect();
        // Freezes first: what one lets go of goes on at once.
        let (freezes, others): (Vec<ChangeId>, Vec<ChangeId>) =
            ids.iter().partition(|id| self.changes.get(*id).is_some_and(|kept| kept.holds.is_some()));
        let mut effects = Vec::new();
        for id in freezes.into_iter().chain(others) {
            if !self.stands_still(&id, world.now_ms) {
                effects.extend(self.step(id, Input::Tick, world).unwrap_or_default());
            }
        }
        let is_old = |id: &ChangeId| self.changes.get(id).is_some_and(|kept| self.is_old(id, kept, world.now_ms));
        let old: Vec<ChangeId> = ids.into_iter().filter(is_old).collect();
        for id in old {
            // Without a row of its own it is deleted; what came of it stands in the log.
            self.changes.remove(&id);
            effects.push(Effect::Change(id));
        }
        effects
    }

    /// What came of what was to be done for a change: plans were made, or cannot be; units are aligned, or are not.
    ///
    /// # Errors
    /// `not-found`; `change` when that cannot be of it.
    pub fn told(&mut self, id: ChangeId, input: Input, world: &World<'_>) -> Result<Vec<Effect>, Refusal> {
        let before = self.change(&id)?.record.clone();
        let mut effects = self.step(id, input, world)?;
        if effects.is_empty() && self.change(&id)?.record != before {
            effects.push(Effect::Change(id));
        }
        Ok(effects)
    }

    /// One step of a change's life, with all that follows.
    pub(super) fn step(&mut self, id: ChangeId, input: Input, world: &World<'_>) -> Result<Vec<Effect>, Refusal> {
        let kept = self.change_mut(&id)?;
        let (record, follows) = life::step(&kept.record, input, world.now_ms).map_err(|fault| fault_of(&fault))?;
        kept.record = record;
        Ok(self.drive(id, follows, world))
    }

    /// Does what follows, and what follows from that, until nothing does.
    pub(super) fn drive(&mut self, id: ChangeId, follows: Vec<Follows>, world: &World<'_>) -> Vec<Effect> {
        let (mut todo, mut effects) = (VecDeque::from(follows), Vec::new());
        if !todo.is_empty() {
            effects.push(Effect::Change(id));
        }
        while let Some(one) = todo.pop_front() {
            match one {
                Follows::Leaf(state, why) => effects.extend(self.moved(id, state, why).map(Effect::Leaf)),
                Follows::Ask(ask) => {
                    if let Some((record, more)) = self.ask(id, ask, world) {
                        if let Ok(kept) = self.change_mut(&id) {
                            kept.record = record;
                        }
                        todo.extend(more);
                    }
                }
                Follows::MakePlans => effects.push(Effect::MakePlans(id)),
                Follows::MakePlansBack => effects.push(Effect::MakePlansBack(id)),
                Follows::PutInForce => effects.extend(self.put_in_force(id, world)),
                Follows::PutBack => effects.extend(self.put_back(id)),
                Follows::RestoreBaseline => effects.push(Effect::RestoreBaseline(id)),
                Follows::Tell(notice) => effects.push(Effect::Tell(id, notice)),
            }
        }
        if !effects.is_empty() {
            self.come_anew();
        }
        effects
    }

    fn moved(&self, id: ChangeId, state: State, why: String) -> Option<Moved> {
        let kept = self.changes.get(&id)?;
        let Record { kind, name, text, .. } = &kept.record;
        Some(Moved { change: id, kind: *kind, name: name.clone(), state, text: *text, why })
    }

    /// Asks the quorum by what holds now, and takes the record on.
    fn ask(&mut self, id: ChangeId, ask: Ask, world: &World<'_>) -> Option<(Record, Vec<Follows>)> {
        let kept = self.changes.get(&id)?;
        let outcome = self.decided(kept, kept.record.moment(ask), world)?;
        // What is only asked of a vote approves nothing, and so travels nowhere.
        let approved_at_ms = match ask {
            Ask::Vote => None,
            Ask::Approval => Some(world.now_ms),
            Ask::Apply => kept.record.approved_at_ms,
        };
        let travels = approved_at_ms.filter(|_| outcome.is_approved());
        let decision = travels.and_then(|approved_at_ms| self.decision(kept, &outcome, approved_at_ms));
        let (decided, text) = (outcome.decided.clone(), kept.record.text);
        let kept = self.change_mut(&id).ok()?;
        kept.decision = decision.or_else(|| kept.decision.take());
        kept.outcome = Some(outcome);
        life::step(&kept.record, Input::Decided { ask, text, decided }, world.now_ms).ok()
    }

    /// What the quorum comes to at a moment, by what holds now.
    pub(super) fn decided(&self, kept: &Kept, moment: Moment, world: &World<'_>) -> Option<Outcome> {
        let case = self.case(kept, moment, world.now_ms)?;
        // What it would be now counts too: it rises, and never falls.
        let criticality = kept.edit.as_ref().map(|edit| self.impact(edit, world).criticality);
        Some(decide(&criticality.map_or(case, |criticality| case.with_criticality(criticality))))
    }

    pub(super) fn case<'a>(&'a self, kept: &'a Kept, moment: Moment, now_ms: u64) -> Option<Case<'a>> {
        let governing = self.governing.as_ref()?;
        let at_creation = Under { roster: &kept.roster, rules: &kept.rules };
        let under = (governing.under(), at_creation);
        let case = Case::new(&kept.text, &kept.checked, under, kept.proposed.as_ref(), (moment, now_ms)).ok()?;
        let is_overdue = |other: &Kept| other.record.reviewed == Some(Reviewed::Overdue);
        let is_barred =
            kept.text.change().way == Way::BreakGlass && self.changes.values().any(|other| is_overdue(other));
        Some(case.with_base(BaseNow::Is(self.base_of(kept))).with_break_glass_barred(is_barred))
    }

    /// What the change takes the place of, as it stands now.
    fn base_of(&self, kept: &Kept) -> Option<Digest> {
        if let Some(held) = kept.holds {
            return self.text_held(&held);
        }
        match kept.record.kind {
            Kind::CreatePolicy | Kind::AlterPolicy | Kind::RevokePolicy => {
                let held = self.policies.get(&Name::lossy(kept.record.name.as_str()));
                held.map(|held| held.policy.digest())
            }
            Kind::Roster => self.governing.as_ref().map(|governing| governing.roster().digest()),
            Kind::Rules => self.governing.as_ref().map(|governing| governing.rules().digest()),
        }
    }

    /// The decision as it travels: with the votes that were counted.
    fn decision(&self, kept: &Kept, outcome: &Outcome, approved_at_ms: u64) -> Option<Vec<u8>> {
        let governing = self.governing.as_ref()?;
        let votes = kept.ballot.counted(&kept.text, outcome);
        let at_creation = Under { roster: &kept.roster, rules: &kept.rules };
        QuorumDecision::new(&kept.text, votes, (governing.under(), at_creation), approved_at_ms)
            .map(|decision| decision.to_bytes())
    }

    /// The signed document holds from now on.
    fn put_in_force(&mut self, id: ChangeId, world: &World<'_>) -> Vec<Effect> {
        let Some(kept) = self.changes.get(&id).filter(|kept| kept.holds.is_none()) else { return Vec::new() };
        let (kind, document) = (kept.record.kind, kept.text.change().document.clone());
        let name = Name::lossy(kept.record.name.as_str());
        let mut effects = Vec::new();
        if kind.is_of_authority() {
            let decision = kept.decision.clone().unwrap_or_default();
            let governing = self.governing.as_mut().map(Arc::make_mut);
            let advanced =
                governing.map(|governing| governing.advance(kind, document.as_bytes(), decision, world.now_ms));
            match advanced {
                Some(Ok(())) => effects.push(Effect::Authority),
                // Who decides stays who decided, and the log says why.
                Some(Err(fault)) => {
                    let why = format!("it could not be put in force: {fault}");
                    effects.extend(self.moved(id, State::InForce, why).map(Effect::Leaf));
                }
                None => {}
            }
        } else {
            // It was read when it was proposed; what is in force is read from the bytes that were signed.
            let put = match policy::read(document.as_bytes(), None) {
                Ok(policy) if kind != Kind::RevokePolicy => {
                    let (policy, text) = (Arc::new(policy), document.into());
                    Some(InForce { policy, text, change: id, since_ms: world.now_ms })
                }
                _ => None,
            };
            let before = match put {
                Some(held) => self.policies.insert(name.clone(), held),
                None => self.policies.remove(&name),
            };
            if let Ok(kept) = self.change_mut(&id) {
                kept.before = before;
            }
            self.map_anew();
            effects.push(Effect::Policy(name));
        }
        effects.extend(self.replace_others(id, world));
        effects
    }

    /// An emergency is over: what held before it holds again, unless another change has come since.
    fn put_back(&mut self, id: ChangeId) -> Vec<Effect> {
        let Ok(kept) = self.change_mut(&id) else { return Vec::new() };
        let name = Name::lossy(kept.record.name.as_str());
        let before = kept.before.take();
        let is_own = match kept.record.kind {
            Kind::RevokePolicy => !self.policies.contains_key(&name),
            _ => self.policies.get(&name).is_some_and(|held| held.change == id),
        };
        if !is_own {
            return Vec::new();
        }
        let _own = match before {
            Some(held) => self.policies.insert(name.clone(), held),
            None => self.policies.remove(&name),
        };
        self.map_anew();
        vec![Effect::Policy(name), Effect::Change(id)]
    }

    /// What was in force before for the same is not any more.
    fn replace_others(&mut self, id: ChangeId, world: &World<'_>) -> Vec<Effect> {
        let Some(kept) = self.changes.get(&id) else { return Vec::new() };
        let (kind, name) = (kept.record.kind, kept.record.name.clone());
        let same = |other: &Kept| {
            other.record.state == State::InForce
                && other.holds.is_none()
                && other.record.name == name
                && (other.record.kind == kind || other.record.moves_limits() && kept.record.moves_limits())
        };
        let others: Vec<ChangeId> =
            self.changes.iter().filter(|(other, kept)| **other != id && same(kept)).map(|(other, _)| *other).collect();
        let input = || Input::Replaced { is_revoked: kind == Kind::RevokePolicy };
        others.into_iter().flat_map(|other| self.step(other, input(), world).unwrap_or_default()).collect()
    }
}

/// What a change of a policy does to the policies in force.
pub(super) fn edit_of(text: &ChangeText) -> Option<Edit> {
    let change = text.change();
    match change.kind {
        _ if held_by(change).is_some() => None,
        Kind::CreatePolicy | Kind::AlterPolicy => {
            let policy = policy::read(change.document.as_bytes(), None).ok()?;
            Some(Edit::Put(Arc::new(policy)))
        }
        Kind::RevokePolicy => Some(Edit::Revoke(Name::lossy(change.name.as_str()))),
        Kind::Roster | Kind::Rules => None,
    }
}

pub(super) fn fault_of(fault: &LifeFault) -> Refusal {
    refuse(fault.to_string())
}
