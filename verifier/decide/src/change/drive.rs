//! What follows from what happens: each step of a change's life, the quorum asked where it is due, documents put in force.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use quotary_common::envelope::Name;
use quotary_common::id::{ChangeId, Digest};
use quotary_common::quorum::change::{ChangeText, Kind, Way};
use quotary_common::quorum::decide::{BaseNow, Case, Decided, Expiry, Moment, Outcome, Under, decide};
use quotary_common::quorum::decision::QuorumDecision;
use quotary_common::quorum::freeze::held_by;
use quotary_common::reason::Refusal;

use super::book::{Book, Effect, InForce, Kept, Moved, World, refuse};
use super::making::against;
use crate::policy::life::{self, Ask, Follows, Input, LifeFault, Record, Reviewed, State};
use crate::policy::{self, Edit};

/// So many changes that are over are kept at most; of more the oldest are let go of before their time.
const OVER_MAX: usize = 4_096;
/// How long a change that is over is kept, ms: a year.
const KEEP_MS: u64 = 366 * 86_400_000;

impl Book {
    /// Whether time alone moves any change now: then a [`World`] is worth making.
    pub fn is_due(&self, now_ms: u64) -> bool {
        let moves =
            |kept: &Kept| life::step(&kept.record, Input::Tick, now_ms).is_ok_and(|(_, follows)| !follows.is_empty());
        let is_due = |id: &ChangeId, kept: &Kept| !self.stands_still(id, now_ms) && moves(kept);
        let (keep_since_ms, needed) = (self.keep_since_ms(now_ms), self.needed());
        let is_old = |id: &ChangeId, kept: &Kept| is_old(kept, keep_since_ms) && !needed.contains(id);
        !self.is_decided && self.governing.is_some()
            || self.changes.iter().any(|(id, kept)| is_due(id, kept) || is_old(id, kept))
    }

    /// Whether a change is held where it is: for it time stands still, but for its apply-by time. A freeze that was approved ahead waits for its own.
    fn stands_still(&self, id: &ChangeId, now_ms: u64) -> bool {
        self.changes.get(id).is_some_and(|kept| {
            let times = &kept.record.times;
            let is_ahead =
                kept.holds.is_some() && kept.record.state == State::Approved && now_ms < times.effective_at_ms;
            is_ahead || now_ms <= times.apply_by_ms && self.held_until_ms(id).is_some()
        })
    }

    /// The changes that something rests on: the policies in force, and what holds again when an emergency is over.
    fn needed(&self) -> BTreeSet<ChangeId> {
        let before_emergency = |id: &ChangeId| {
            let kept = self.changes.get(id).filter(|kept| kept.record.times.emergency.is_some())?;
            kept.before.as_ref().map(|held| held.change)
        };
        let mut needed: BTreeSet<ChangeId> = self.policies.values().map(|held| held.change).collect();
        let lasts = |kept: &Kept| kept.record.times.emergency.is_some() && kept.record.state == State::InForce;
        let lasting = self.changes.iter().filter(|(_, kept)| lasts(kept)).map(|(id, _)| *id);
        // One stood before another, and that before a policy.
        let mut todo: Vec<ChangeId> = lasting.collect();
        while let Some(id) = todo.pop() {
            todo.extend(before_emergency(&id).filter(|before| needed.insert(*before)));
        }
        needed
    }

    /// What was over before that instant is let go of, Unix ms.
    fn keep_since_ms(&self, now_ms: u64) -> u64 {
        let over = self.changes.values().filter(|kept| kept.record.state.is_over());
        let mut since: Vec<u64> = over.map(|kept| kept.record.since_ms).collect();
        let year_ago_ms = now_ms.saturating_sub(KEEP_MS);
        if since.len() <= OVER_MAX {
            return year_ago_ms;
        }
        since.sort_unstable_by(|one, other| other.cmp(one));
        since.get(OVER_MAX - 1).map_or(year_ago_ms, |at_ms| year_ago_ms.max(*at_ms))
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
        if !self.is_decided {
            self.is_decided = true;
            effects.extend(self.decide_anew(world));
        }
        let (keep_since_ms, needed) = (self.keep_since_ms(world.now_ms), self.needed());
        let is_old = |id: &ChangeId| {
            !needed.contains(id) && self.changes.get(id).is_some_and(|kept| is_old(kept, keep_since_ms))
        };
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
                Follows::PutBack => effects.extend(self.put_back(id, world)),
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
        let impact = kept.edit.as_ref().map(|edit| self.impact(edit, world));
        let case = self.case(kept, kept.record.moment(ask), world.now_ms)?;
        // What it would be now counts too: it rises, and never falls.
        let criticality = impact.as_ref().map(|impact| impact.criticality);
        let outcome = decide(&criticality.map_or(case, |criticality| case.with_criticality(criticality)));
        // What is only asked of a vote approves nothing, and so travels nowhere.
        let approved_at_ms = match ask {
            Ask::Vote => None,
            Ask::Approval => Some(world.now_ms),
            Ask::Apply => kept.record.approved_at_ms,
        };
        let travels = approved_at_ms.filter(|_| outcome.is_approved());
        let decision = travels.and_then(|approved_at_ms| self.decision(kept, &outcome, approved_at_ms));
        let against = travels.and_then(|_| match (&kept.edit, &impact) {
            // Who was approved first goes first.
            (Some(edit), Some(impact)) => against(impact, "")
                .or_else(|| (ask == Ask::Approval).then(|| self.against_others(&id, edit, world)).flatten()),
            _ => None,
        });
        let against = against.or_else(|| travels.and_then(|_| self.undecided(kept, decision.as_deref(), ask, world)));
        let (decided, text) = (outcome.decided.clone(), kept.record.text);
        let kept = self.change_mut(&id).ok()?;
        kept.decision = decision.or_else(|| kept.decision.take());
        kept.outcome = Some(outcome);
        let input = match against {
            Some(why) => Input::CannotBeDone(why),
            None => Input::Decided { ask, text, decided },
        };
        life::step(&kept.record, input, world.now_ms).ok()
    }

    /// Why what was approved could not be put in force, or reach those who hold it against who decides; nothing if it can.
    fn undecided(&self, kept: &Kept, decision: Option<&[u8]>, ask: Ask, world: &World<'_>) -> Option<String> {
        if kept.holds.is_some() {
            return None;
        }
        let Some(decision) = decision else {
            return Some("its votes do not fit into a decision that hosts could check".to_owned());
        };
        let kind = kept.record.kind;
        if ask != Ask::Apply || !kind.is_of_authority() {
            return None;
        }
        let mut governing = (**self.governing.as_ref()?).clone();
        let document = kept.text.change().document.as_bytes();
        let advanced = governing.advance(kind, document, decision.to_vec(), world.now_ms);
        advanced.err().map(|fault| format!("it cannot be put in force: {fault}"))
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
            let link = self.governing.as_ref().and_then(|governing| governing.last_link());
            match advanced {
                Some(Ok(())) => {
                    effects.extend(link.map(|(number, link)| Effect::Authority { number, link: link.to_vec() }))
                }
                // That was tried a moment ago. Who decides stays who decided, and the log says why.
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
        if kind.is_of_authority() {
            effects.extend(self.decide_anew(world));
        }
        effects
    }

    /// Others may decide from now on: what was approved, moves or is in force has its decision made again under them. Hosts that have learned of them take
    /// no plan by a decision that they have not acted on yet and that was made under others: so what they do not agree to, and is not in force, is
    /// over at once. What is in force stays, by the decision that it has.
    fn decide_anew(&mut self, world: &World<'_>) -> Vec<Effect> {
        let stands = |kept: &Kept| {
            let is_under_way = matches!(kept.record.state, State::Approved | State::Shaping | State::InForce);
            is_under_way && kept.record.moves_limits() && kept.holds.is_none()
        };
        let ids: Vec<ChangeId> = self.changes.iter().filter(|(_, kept)| stands(kept)).map(|(id, _)| *id).collect();
        let mut effects = Vec::new();
        for id in ids {
            let made = self.changes.get(&id).and_then(|kept| {
                let approved_at_ms = kept.record.approved_at_ms?;
                // What is in force held when it took effect; what is not is held by its clocks.
                let times = &kept.record.times;
                let is_in_force = kept.record.state == State::InForce;
                let last_ms = if is_in_force { times.effective_at_ms } else { times.apply_by_ms };
                let at_ms = world.now_ms.min(last_ms);
                let case = self.case(kept, Moment::Apply { approved_at_ms }, at_ms)?;
                // What is in force has taken its base's place already.
                let outcome = decide(&case.with_base(BaseNow::Is(kept.text.change().base)));
                let decision = outcome.is_approved().then(|| self.decision(kept, &outcome, approved_at_ms)).flatten();
                Some((decision, outcome))
            });
            let (Some((decision, outcome)), Ok(kept)) = (made, self.change_mut(&id)) else { continue };
            let is_in_force = kept.record.state == State::InForce;
            // What its own clocks end they end.
            let is_late = matches!(outcome.decided, Decided::Expired(Expiry::ApplyBy | Expiry::Over));
            if decision.is_some() || !is_in_force {
                kept.outcome = Some(outcome);
            }
            match decision {
                Some(decision) if kept.decision.as_ref() != Some(&decision) => {
                    kept.decision = Some(decision);
                    effects.push(Effect::Change(id));
                }
                // What is only over by its clocks those see to.
                None if !is_in_force && !is_late => {
                    let why = "those who decide now do not approve it".to_owned();
                    effects.extend(self.step(id, Input::CannotBeDone(why), world).unwrap_or_default());
                }
                _ => {}
            }
        }
        effects
    }

    /// An emergency is over: what held before it holds again, unless another change has come since.
    fn put_back(&mut self, id: ChangeId, world: &World<'_>) -> Vec<Effect> {
        let Ok(kept) = self.change(&id) else { return Vec::new() };
        let name = Name::lossy(kept.record.name.as_str());
        let before = self.stood_before(kept, world.now_ms);
        let is_own = match kept.record.kind {
            Kind::RevokePolicy => !self.policies.contains_key(&name),
            _ => self.policies.get(&name).is_some_and(|held| held.change == id),
        };
        if !is_own {
            return Vec::new();
        }
        let restored = before.as_ref().map(|held| held.change);
        let _own = match before {
            Some(held) => self.policies.insert(name.clone(), held),
            None => self.policies.remove(&name),
        };
        self.map_anew();
        let mut effects = vec![Effect::Policy(name), Effect::Change(id)];
        effects.extend(restored.into_iter().flat_map(|id| self.step(id, Input::Restored, world).unwrap_or_default()));
        // Who decides may have changed while the emergency held.
        self.is_decided = false;
        effects
    }

    /// What holds when an emergency is over: what it took the place of, but for other emergencies that are over too.
    fn stood_before(&self, kept: &Kept, now_ms: u64) -> Option<InForce> {
        let is_over = |held: &InForce| {
            let emergency = self.changes.get(&held.change).and_then(|kept| kept.record.times.emergency);
            emergency.is_some_and(|emergency| emergency.ends_at_ms <= now_ms)
        };
        let mut before = kept.before.clone();
        for _ in 0..self.changes.len() {
            let Some(held) = before.as_ref().filter(|held| is_over(held)) else { break };
            before = self.changes.get(&held.change).and_then(|kept| kept.before.clone());
        }
        before
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

/// Whether a change has been over for so long that nobody looks at it any more. One that is still to be reviewed is not.
fn is_old(kept: &Kept, keep_since_ms: u64) -> bool {
    let record = &kept.record;
    let was_in_force = record.state == State::Revoked;
    let is_reviewed = matches!(record.reviewed, Some(Reviewed::InTime | Reviewed::Late));
    let is_to_be_reviewed = was_in_force && record.times.emergency.is_some() && !is_reviewed;
    record.state.is_over() && record.since_ms < keep_since_ms && !is_to_be_reviewed
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
