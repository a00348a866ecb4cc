//! Changes of policies, roster and rules in the writer: what people ask for, what follows, and how it is kept.

use std::sync::Arc;

use quotary_common::cbor::Text;
use quotary_common::envelope::Name;
use quotary_common::id::{ChangeId, Digest};
use quotary_common::leaf::{ChangeMoved, Decision, PlanChange, VoteCast};
use quotary_common::plan::CheckedPlan;
use quotary_common::quorum::change::{Input as ChangeInput, Way};
use quotary_common::quorum::roster::Word;
use quotary_common::quorum::rules::Escalation;
use quotary_common::quorum::vote::{CheckedVote, Vote};
use quotary_common::reason::Refusal;
use quotary_common::wire::ChangeSubject;
use quotary_decide::change::{Asked, Book, Effect, Kept, World};
use quotary_decide::policy::life::{Input, Notice, State as LifeState};
use quotary_decide::shape::PlanRecord;

use super::command::Answer;
use super::standing::Place;
use super::state::{Pending, State, Step};
use super::tables;
use crate::teller::Told;

/// What somebody asks of changes.
#[derive(Debug)]
pub enum ChangeAsk {
    /// Proposes one.
    Propose(Box<Proposal>),
    /// Edits one.
    Edit(Box<Proposal>),
    /// Hands in a vote whose signature holds.
    Vote {
        /// The change.
        id: ChangeId,
        /// The vote as it is kept.
        vote: Box<Vote>,
        /// What its check made of it.
        checked: Box<CheckedVote>,
    },
    /// Takes one back.
    Withdraw {
        /// The change.
        id: ChangeId,
    },
}

/// What a change would do.
#[derive(Debug)]
pub struct Proposal {
    /// Which change; random where it is new.
    pub id: ChangeId,
    /// What it would do.
    pub subject: ChangeSubject,
    /// By which way.
    pub way: Way,
    /// How long an emergency lasts, ms.
    pub lasts_ms: Option<u64>,
    /// When it is to be in force, Unix ms.
    pub effective_at_ms: Option<u64>,
    /// What is applied with it.
    pub inputs: Vec<ChangeInput>,
    /// Random.
    pub nonce: [u8; 16],
}

/// What the planner made of a change.
#[derive(Debug)]
pub struct PlansMade {
    /// The change.
    pub change: ChangeId,
    /// What it was when they were made; `None`: it is kept no longer.
    pub basis: Option<Basis>,
    /// The plans.
    pub plans: Vec<CheckedPlan>,
    /// Plans that are to end.
    pub ending: Vec<(quotary_common::id::HostId, quotary_common::id::PlanId)>,
    /// What the change's life is told.
    pub told: Option<Input>,
    /// Why, where it is not the first time.
    pub why: Option<String>,
}

/// What plans were made of: where it has become something else since, they are made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    text: Digest,
    state: LifeState,
    since_ms: u64,
    is_held: bool,
}

impl Basis {
    /// What a change is now.
    pub fn of(book: &Book, id: &ChangeId) -> Option<Self> {
        let record = book.changes().get(id)?.record();
        let is_held = book.held_until_ms(id).is_some();
        Some(Self { text: record.text, state: record.state, since_ms: record.since_ms, is_held })
    }
}

impl State {
    /// Does what somebody asks; who he is follows from his token.
    pub(super) fn ask_change(
        &mut self,
        ask: ChangeAsk,
        (by, actor): (&Word, &str),
        answer: Answer<ChangeId>,
        now_ms: u64,
    ) -> Step {
        let mut step = Step::default();
        let told = self.with_world(now_ms, |book, world| match &ask {
            ChangeAsk::Propose(proposal) => {
                book.propose(&asked(proposal, by), world).map(|effects| (proposal.id, effects))
            }
            ChangeAsk::Edit(proposal) => book.edit(&asked(proposal, by), world).map(|effects| (proposal.id, effects)),
            ChangeAsk::Vote { id, vote, checked } => {
                book.cast(*id, (**vote).clone(), (**checked).clone(), world).map(|effects| (*id, effects))
            }
            ChangeAsk::Withdraw { id } => book.withdraw(*id, by, world).map(|effects| (*id, effects)),
        });
        let answered = told.map(|(id, effects)| {
            if let (ChangeAsk::Vote { vote, .. }, false) = (&ask, effects.is_empty()) {
                step.leaf(now_ms, actor, Decision::VoteCast(cast(id, vote)));
            }
            self.take_effects(&mut step, effects, actor, now_ms);
            id
        });
        step.pending = Some(Pending::Changed(answer, answered));
        step
    }

    /// Time goes by for changes.
    pub(super) fn tick_changes(&mut self, step: &mut Step, now_ms: u64) {
        if self.changes.is_due(now_ms) {
            let effects = self.with_world(now_ms, |book, world| book.tick(world));
            self.take_effects(step, effects, "verifier", now_ms);
        }
    }

    /// Takes the plans that were made of a change, where it is still what they were made of.
    pub(super) fn take_plans(&mut self, made: PlansMade, now_ms: u64) -> Step {
        let mut step = Step::default();
        let PlansMade { change: id, basis, plans, ending, told, why } = made;
        if Basis::of(&self.changes, &id) != basis {
            return step;
        }
        if let Some(input) = told {
            match self.with_world(now_ms, |book, world| book.told(id, input, world)) {
                Ok(effects) => self.take_effects(&mut step, effects, "verifier", now_ms),
                Err(_) => return step,
            }
        }
        // What is over moves nothing but back.
        let actor = format!("change {id}");
        for (host, plan) in ending {
            let ended = self.plans.end(&host, PlanChange::Cancelled, now_ms, |record| record.plan().id == plan);
            self.record_ended(&mut step, &ended, &actor, now_ms);
            step.hosts.push(host);
        }
        let mut given = 0_usize;
        for plan in plans {
            given += usize::from(self.give_plan(&mut step, plan, id, &actor, now_ms));
        }
        if let Some(why) = why.filter(|_| given > 0) {
            tracing::info!(change = %id, why, given, "plans were made anew");
        }
        step
    }

    /// Gives a plan of a change; one that the target has already is replaced. A plan that was made before something else came is left out:
    /// the planner makes another.
    fn give_plan(&mut self, step: &mut Step, plan: CheckedPlan, id: ChangeId, actor: &str, now_ms: u64) -> bool {
        let (host, target) = (plan.plan().host, plan.plan().target.clone());
        let is_fresh = self.hosts.get(&host).is_some_and(|known| known.progress.epoch == plan.plan().epoch)
            && plan.plan().generation > self.plans.last_generation(&host, &target);
        let others = self.plans.given(&host).filter(|record| record.plan().target != target).count();
        if !is_fresh || others >= quotary_common::limits::PLANS_MAX {
            return false;
        }
        let replaced = self.plans.end(&host, PlanChange::Replaced, now_ms, |record| record.plan().target == target);
        self.record_ended(step, &replaced, actor, now_ms);
        let record = PlanRecord::new(plan, &self.settings.grant_key, actor, now_ms).of_change(id);
        self.record_plan(step, &record, (PlanChange::Drafted, actor), now_ms);
        self.plans.put(record);
        step.hosts.push(host);
        true
    }

    /// What accepted evidence tells of plans of changes: aligned, or off.
    pub(super) fn note_alignment(&mut self, step: &mut Step, host: &quotary_common::id::HostId, now_ms: u64) {
        let mut changes: Vec<ChangeId> = self.plans.given(host).filter_map(|record| record.change()).collect();
        changes.sort_unstable();
        changes.dedup();
        for id in changes {
            let Ok(kept) = self.changes.change(&id) else { continue };
            let record = kept.record();
            if !matches!(record.state, LifeState::Shaping | LifeState::InForce) {
                continue;
            }
            let (is_news, was_aligned) = (record.why.is_none(), record.aligned_at_ms.is_some());
            // What stands still is where it was told to be, and not where it is to go.
            let was_held = self.changes.was_held(&id);
            let stands = |plan: &Arc<PlanRecord>| self.changes.is_of_freeze(&id, plan.made_at_ms());
            if was_held && self.plans.of_change(&id).any(stands) {
                continue;
            }
            let input = match self.plans.off(&id) {
                // One deviation is told once.
                Some(record) => record.told().filter(|_| is_news).map(|told| {
                    let plan = record.plan();
                    Input::Deviated(format!("{} on {}: {}", plan.target, plan.host, told.words()))
                }),
                None => (!was_aligned && self.plans.are_aligned(&id, now_ms)).then_some(Input::Aligned),
            };
            let Some(input) = input else { continue };
            if let Ok(effects) = self.with_world(now_ms, |book, world| book.told(id, input, world)) {
                self.take_effects(step, effects, "verifier", now_ms);
            }
        }
    }

    fn with_world<T>(&mut self, now_ms: u64, work: impl FnOnce(&mut Book, &World<'_>) -> T) -> T {
        let mut book = std::mem::take(&mut self.changes);
        let settings = Arc::clone(&self.settings);
        let catalogue = settings.ground.catalogue(&book);
        let places = self.hosts.iter().map(|(id, host)| {
            let runs = self.runs.get(id).map(|runs| &**runs).unwrap_or_default();
            let grants = self.book.host(id).into_iter().flat_map(|share| share.entries());
            Place::new(host, runs, grants)
        });
        let standing = settings.ground.standing(places);
        let world = World {
            deployment: settings.deployment,
            catalogue: &catalogue,
            standing: &standing,
            rules: &settings.ground.rules,
            now_ms,
        };
        let done = work(&mut book, &world);
        self.changes = book;
        done
    }

    fn take_effects(&mut self, step: &mut Step, effects: Vec<Effect>, actor: &str, now_ms: u64) {
        step.changes |= !effects.is_empty();
        for effect in effects {
            match effect {
                Effect::Change(id) => {
                    let row = self.changes.change_row(&id);
                    step.put_bytes(tables::CHANGES, id.as_bytes(), row);
                }
                Effect::Policy(name) => {
                    let row = self.changes.policy_row(&name);
                    step.put_bytes(tables::POLICIES, name.as_str().as_bytes(), row);
                }
                Effect::Authority { number, link } => {
                    let Some(governing) = self.changes.governing() else { continue };
                    step.put_bytes(tables::AUTHORITY, tables::AUTHORITY_NOW, Some(governing.to_row()));
                    step.put_bytes(tables::AUTHORITY, &tables::link_key(number), Some(link));
                }
                Effect::Leaf(moved) => {
                    let kept = self.changes.changes().get(&moved.change);
                    let what = kept.map_or(moved.kind.name(), |kept| kept.kind_name());
                    let state = kept.map_or(moved.state.name(), |kept| kept.name_of(moved.state));
                    let told = ChangeMoved {
                        change: moved.change,
                        what: Text::lossy(what),
                        name: Name::lossy(moved.name.as_str()),
                        state: Text::lossy(state),
                        text: moved.text,
                        why: (!moved.why.is_empty()).then(|| Text::lossy(&moved.why)),
                    };
                    tracing::info!(change = %moved.change, what, state, why = moved.why, "a change moved");
                    step.leaf(now_ms, actor, Decision::ChangeMoved(told));
                }
                Effect::Tell(id, notice) => {
                    tell(&id, self.changes.changes().get(&id).map(|kept| &**kept), &notice);
                    step.told.extend(self.escalated(&id, &notice));
                }
                // The planner sees the change as it is now, and makes them.
                Effect::MakePlans(_) | Effect::MakePlansBack(_) | Effect::RestoreBaseline(_) => {}
            }
        }
    }
}

impl State {
    /// What a step of escalation tells, to whom the rules say.
    fn escalated(&self, id: &ChangeId, notice: &Notice) -> Vec<Told> {
        let Notice::Escalated(number) = notice else { return Vec::new() };
        let Ok(kept) = self.changes.change(id) else { return Vec::new() };
        kept.escalation(*number).into_iter().map(|step| told_of(kept, *number, step)).collect()
    }

    /// What was taken of escalation and may not have been told, because the verifier stopped between the two: it is told again.
    pub(super) fn escalated_before(&self) -> Vec<Told> {
        let steps = self.changes.escalated();
        steps.flat_map(|(id, number)| self.escalated(&id, &Notice::Escalated(number))).collect()
    }
}

fn told_of(kept: &Kept, number: u32, step: &Escalation) -> Told {
    let change = kept.text().change();
    let people: Vec<&str> = step.add_people.iter().map(Word::as_str).collect();
    let roles: Vec<&str> = step.add_roles.iter().map(Word::as_str).collect();
    let body = serde_json::json!({
        "event": "change-escalated",
        "deployment": change.deployment,
        "change": change.id.to_string(),
        "kind": change.kind.name(),
        "name": change.name,
        "criticality": change.criticality.to_string(),
        "requester": change.requester,
        "approve_by": quotary_common::instant::rfc3339(change.approve_by_ms),
        "step": number + 1,
        "people": people,
        "roles": roles,
        "quorum": kept.outcome().and_then(|outcome| outcome.explain().into_iter().next()),
    });
    Told { body: body.to_string(), webhook: step.webhook.clone(), command: step.command.clone() }
}

fn asked<'a>(proposal: &'a Proposal, by: &'a Word) -> Asked<'a> {
    Asked {
        subject: &proposal.subject,
        by,
        way: proposal.way,
        lasts_ms: proposal.lasts_ms,
        effective_at_ms: proposal.effective_at_ms,
        inputs: proposal.inputs.clone(),
        id: proposal.id,
        nonce: proposal.nonce,
    }
}

fn cast(change: ChangeId, vote: &Vote) -> VoteCast {
    VoteCast {
        change,
        person: vote.person.clone(),
        verb: vote.verb,
        key: vote.key.0,
        text: vote.text,
        input: Digest::of(&[&vote.signature]),
    }
}

fn tell(id: &ChangeId, kept: Option<&Kept>, notice: &Notice) {
    match notice {
        Notice::Escalated(one) => tracing::warn!(change = %id, step = one + 1, "not approved in time: escalated"),
        Notice::Review(why) => tracing::warn!(change = %id, why, "a change is not as planned: somebody must look"),
        Notice::Over(state, why) => {
            let state = kept.map_or(state.name(), |kept| kept.name_of(*state));
            tracing::info!(change = %id, state, why, "a change is over");
        }
        Notice::Unreviewed => {
            tracing::error!(change = %id, "an emergency or a freeze was not reviewed in time: there may be no other until it is")
        }
    }
}

/// A refusal of who may not ask.
pub(crate) fn no_person(name: &str) -> Refusal {
    Refusal::new(
        quotary_common::reason::Reason::Forbidden,
        format!(
            "the token is in the name of `{name}`, who is not on the roster: make one with the name of a person on it"
        ),
    )
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
