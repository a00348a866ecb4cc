//! One step in the life of a change.

use std::collections::BTreeSet;

use quotary_common::cbor::{Bounded, Text, Version};
use quotary_common::id::Digest;
use quotary_common::instant::rfc3339;
use quotary_common::limits::ESCALATIONS_MAX;
use quotary_common::quorum::change::Kind;
use quotary_common::quorum::decide::{Block, Decided};
use quotary_common::quorum::roster::Word;

use super::fault::LifeFault;
use super::record::{Ask, Record, Reviewed, Revision, State, Times};

/// What happened to a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// It was edited: another text, with clocks of its own.
    Edited {
        /// Who.
        by: Word,
        /// SHA-256 of the text.
        text: Digest,
        /// Its clocks.
        times: Times,
        /// When each step of its escalation is due, ms from now, in any order.
        escalate_after_ms: Vec<u64>,
    },
    /// A vote came; it is kept elsewhere.
    Voted {
        /// The text that it is for.
        text: Digest,
    },
    /// The quorum was asked.
    Decided {
        /// For what.
        ask: Ask,
        /// The text that it was asked about.
        text: Digest,
        /// What it says.
        decided: Decided,
    },
    /// Its plans are made, signed and on their way.
    Planned,
    /// No plan leads there, or what it needs does not fit any more.
    CannotBeDone(String),
    /// Every unit has what it should.
    Aligned,
    /// Something is not as planned, beyond tolerance.
    Deviated(String),
    /// Who asked for it takes it back.
    Withdrawn {
        /// Who.
        by: Word,
    },
    /// Another change took its policy out, or put another document in its place.
    Replaced {
        /// Whether nothing came in its place.
        is_revoked: bool,
    },
    /// An emergency that took its place is over: it holds again.
    Restored,
    /// An emergency was reviewed by as many as its rule asks for.
    Reviewed,
    /// Time goes by.
    Tick,
}

const UNAPPROVED: &str = "it was not approved in time";
const UNAPPLIED: &str = "it was not in force in time";
/// Of a policy what held before; of a freeze what it held.
const OVER: &str = "its time is over: what was before it goes on";
const UNREVIEWED: &str = "it was not reviewed in time: until it is, no glass is broken and nothing is frozen";
const REVIEWED_LATE: &str = "reviewed after its time";
const TOO_LATE: &str = "its least delay does not fit before its effective time any more";

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// This step of escalation, from 0, is due: its people may approve from now on. The record has it taken by the time that this is told:
    /// whoever was stopped in between tells it again (the steps taken of what is still open).
    Escalated(u32),
    /// Something is not as planned: somebody looks at it.
    Review(String),
    /// It is over without having come into force, or ended by itself.
    Over(State, String),
    /// An emergency or a freeze was not reviewed in time: there may be no other until it is.
    Unreviewed,
}

/// What follows, in this order. State and leaves are committed together before anything else is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follows {
    /// A leaf: the change is in this state, and why.
    Leaf(State, String),
    /// Ask the quorum.
    Ask(Ask),
    /// Make plans to what it says.
    MakePlans,
    /// Make plans back to what the policies in force say.
    MakePlansBack,
    /// Its document holds from now on (for a revocation: the policy's holds no more).
    PutInForce,
    /// Its document holds no more; what held before it holds again.
    PutBack,
    /// The units that it was for go back to their baseline.
    RestoreBaseline,
    /// Tell people.
    Tell(Notice),
}

/// The record after a step, and what follows from it.
pub type Step = Result<(Record, Vec<Follows>), LifeFault>;

/// A change begins.
///
/// # Errors
/// [`LifeFault::Times`] when its clocks cannot all be kept.
pub fn propose(
    (kind, name): (Kind, Word),
    requester: Word,
    text: Digest,
    times: Times,
    escalate_after_ms: &[u64],
    now_ms: u64,
) -> Step {
    times_hold(&times, now_ms)?;
    let record = Record {
        version: Version,
        kind,
        name,
        editor: requester.clone(),
        requester,
        text,
        times,
        state: State::Proposed,
        since_ms: now_ms,
        proposed_at_ms: now_ms,
        approved_at_ms: None,
        revisions: Bounded::default(),
        escalate_at_ms: due_at(escalate_after_ms, now_ms),
        escalated: 0,
        aligned_at_ms: None,
        why: None,
        reviewed: None,
    };
    let follows = vec![Follows::Leaf(State::Proposed, String::new()), Follows::Ask(Ask::Vote)];
    Ok((record, follows))
}

/// When steps of escalation are due that count from `now_ms` on: each instant once, the earliest first.
fn due_at(after_ms: &[u64], now_ms: u64) -> Bounded<u64, { 2 * ESCALATIONS_MAX }> {
    let at_ms: BTreeSet<u64> = after_ms.iter().map(|after_ms| now_ms.saturating_add(*after_ms)).collect();
    Bounded::truncating(at_ms.into_iter().collect()).0
}

/// Whether there is a way to keep all the clocks from `now_ms` on.
fn times_hold(times: &Times, now_ms: u64) -> Result<(), LifeFault> {
    let Times { approve_by_ms, apply_by_ms, effective_at_ms, delay_ms_min, emergency } = *times;
    let fault = |why: &str| Err(LifeFault::Times(why.to_owned()));
    if approve_by_ms <= now_ms {
        return fault("approve-by is over already");
    }
    if effective_at_ms > apply_by_ms {
        return fault("the effective time is after apply-by");
    }
    if emergency.is_some_and(|emergency| emergency.ends_at_ms <= effective_at_ms) {
        return fault("it ends before its effective time");
    }
    match now_ms.checked_add(delay_ms_min) {
        Some(earliest) if earliest <= effective_at_ms => Ok(()),
        _ => fault("the effective time is nearer than the least delay of its rule"),
    }
}

/// One step: what happened to `record` at `now_ms`.
///
/// # Errors
/// A [`LifeFault`] when it cannot happen to it; then nothing changes.
pub fn step(record: &Record, input: Input, now_ms: u64) -> Step {
    let mut next = Walk { record: record.clone(), follows: Vec::new(), now_ms };
    match input {
        Input::Tick => next.tick(),
        Input::Edited { by, text, times, escalate_after_ms } => {
            next.edit(by, text, times)?;
            // The quorum counts its steps from when the text was written.
            (next.record.escalate_at_ms, next.record.escalated) = (due_at(&escalate_after_ms, now_ms), 0);
        }
        Input::Voted { text } => next.vote(&text)?,
        Input::Decided { ask, text, decided } => next.decide(ask, &text, decided)?,
        Input::Planned => next.planned()?,
        Input::CannotBeDone(why) => next.cannot(why)?,
        Input::Aligned => next.aligned()?,
        Input::Deviated(why) => next.deviated(why)?,
        Input::Withdrawn { by } => next.withdraw(&by)?,
        Input::Replaced { is_revoked } => next.replaced(is_revoked)?,
        Input::Restored => next.restored()?,
        Input::Reviewed => next.reviewed()?,
    }
    Ok((next.record, next.follows))
}

struct Walk {
    record: Record,
    follows: Vec<Follows>,
    now_ms: u64,
}

impl Walk {
    fn not_now(&self, what: &'static str) -> LifeFault {
        LifeFault::NotNow { state: self.record.state, what }
    }

    fn become_(&mut self, state: State, why: &str) {
        (self.record.state, self.record.since_ms) = (state, self.now_ms);
        self.record.why = (!why.is_empty()).then(|| Text::lossy(why));
        self.follows.push(Follows::Leaf(state, why.to_owned()));
    }

    /// Over without having come into force: what moves already is asked back.
    fn end(&mut self, state: State, why: &str) {
        let was_moving = self.record.state == State::Shaping;
        self.become_(state, why);
        self.record.approved_at_ms = None;
        if was_moving {
            self.follows.push(Follows::MakePlansBack);
        }
        self.follows.push(Follows::Tell(Notice::Over(state, why.to_owned())));
    }

    /// What time alone does. It denies, escalates, and asks; it never grants.
    fn tick(&mut self) {
        let times = self.record.times;
        if self.record.state.is_open() {
            if self.now_ms > times.approve_by_ms {
                self.end(State::Expired, UNAPPROVED);
            } else if self.is_too_late() {
                self.end(State::Expired, TOO_LATE);
            } else {
                self.escalate();
            }
        } else if matches!(self.record.state, State::Approved | State::Shaping) {
            if self.now_ms > times.apply_by_ms {
                self.end(State::Expired, UNAPPLIED);
            } else if self.now_ms >= times.effective_at_ms {
                self.follows.push(Follows::Ask(Ask::Apply));
            } else if self.record.state == State::Approved && self.record.moves_limits() {
                // Whoever was to make them did not get to it.
                self.follows.push(Follows::MakePlans);
            }
        }
        self.tick_emergency();
    }

    /// An emergency ends by itself, and waits for its review in force and after.
    fn tick_emergency(&mut self) {
        let Some(emergency) = self.record.times.emergency else { return };
        if self.record.state == State::InForce && self.now_ms >= emergency.ends_at_ms {
            let why = format!("{OVER}{}", self.to_be_reviewed(emergency.review_by_ms));
            self.become_(State::Revoked, &why);
            let told = Follows::Tell(Notice::Over(State::Revoked, why));
            self.follows.extend([Follows::PutBack, Follows::MakePlansBack, told]);
        }
        let was_in_force = matches!(self.record.state, State::InForce | State::Revoked);
        if was_in_force && self.record.reviewed.is_none() && self.now_ms >= emergency.review_by_ms {
            self.record.reviewed = Some(Reviewed::Overdue);
            self.follows.push(Follows::Leaf(self.record.state, UNREVIEWED.to_owned()));
            self.follows.push(Follows::Tell(Notice::Unreviewed));
        }
    }

    /// What is added to its end where nobody has looked at it yet.
    fn to_be_reviewed(&self, by_ms: u64) -> String {
        let is_waiting = self.record.reviewed.is_none();
        if is_waiting { format!("; it is to be reviewed until {}", rfc3339(by_ms)) } else { String::new() }
    }

    fn escalate(&mut self) {
        let due = self.record.escalate_at_ms.iter().filter(|at_ms| **at_ms <= self.now_ms).count();
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        if due > self.record.escalated {
            let (state, all) = (self.record.state, self.record.escalate_at_ms.len());
            let why = |one: u32| format!("escalated, step {} of {all}: not approved in time", one + 1);
            let steps = self.record.escalated..due;
            self.follows.extend(steps.clone().map(|one| Follows::Leaf(state, why(one))));
            self.follows.extend(steps.map(|one| Follows::Tell(Notice::Escalated(one))));
            self.record.escalated = due;
            // Votes that were there before may count from now on.
            self.follows.push(Follows::Ask(Ask::Vote));
        }
    }

    fn edit(&mut self, by: Word, text: Digest, times: Times) -> Result<(), LifeFault> {
        if !self.record.state.is_open() && self.record.state != State::Approved {
            return Err(self.not_now("only what has not begun to move can be edited; propose another change"));
        }
        self.in_time()?;
        times_hold(&times, self.now_ms)?;
        let old = Revision { text: self.record.text, editor: self.record.editor.clone(), until_ms: self.now_ms };
        let mut revisions = std::mem::take(&mut self.record.revisions).into_vec();
        revisions.push(old);
        self.record.revisions = Bounded::new(revisions).ok_or(LifeFault::Edits)?;
        (self.record.editor, self.record.text, self.record.times) = (by, text, times);
        self.record.approved_at_ms = None;
        self.become_(State::Approving, "edited: approvals of the text before are dismissed");
        self.follows.push(Follows::Ask(Ask::Vote));
        Ok(())
    }

    /// Whether the clocks still allow what is done now: a tick that is late changes nothing.
    fn in_time(&self) -> Result<(), LifeFault> {
        let times = self.record.times;
        let (at_ms, what) = match self.record.state.is_open() {
            true => (times.approve_by_ms, "approving it"),
            false => (times.apply_by_ms, "putting it in force"),
        };
        if self.now_ms <= at_ms { Ok(()) } else { Err(LifeFault::TooLate { what, at_ms }) }
    }

    fn vote(&mut self, text: &Digest) -> Result<(), LifeFault> {
        let at_ms = self.record.times.approve_by_ms;
        if self.record.state == State::Expired && self.now_ms > at_ms {
            return Err(LifeFault::TooLate { what: "approving it", at_ms });
        }
        if !self.record.state.is_open() {
            return Err(self.not_now("votes are taken until it is approved"));
        }
        self.in_time()?;
        if !self.record.dismisses(text) {
            self.follows.push(Follows::Ask(Ask::Vote));
        }
        Ok(())
    }

    fn decide(&mut self, ask: Ask, text: &Digest, decided: Decided) -> Result<(), LifeFault> {
        if self.record.dismisses(text) {
            return Err(self.not_now("the quorum was asked about another text"));
        }
        match (ask, self.record.state) {
            (Ask::Vote | Ask::Approval, State::Proposed | State::Approving) => self.decide_open(ask, decided),
            (Ask::Apply, State::Approved | State::Shaping) => self.decide_apply(decided),
            _ => Err(self.not_now("nobody asked the quorum")),
        }
    }

    fn decide_open(&mut self, ask: Ask, decided: Decided) -> Result<(), LifeFault> {
        self.in_time()?;
        if self.record.state == State::Proposed {
            self.become_(State::Approving, "");
        }
        match decided {
            Decided::Pending(_) => self.record.why = None,
            Decided::Rejected(block @ Block::By(_)) => self.end(State::Rejected, &block.to_string()),
            // An edit, or the review that is due, cures it.
            Decided::Rejected(block) => self.record.why = Some(Text::lossy(&block.to_string())),
            Decided::Expired(expiry) => self.end(State::Expired, &expiry.to_string()),
            Decided::Approved if ask == Ask::Vote => self.follows.push(Follows::Ask(Ask::Approval)),
            Decided::Approved if self.is_too_late() => self.end(State::Expired, TOO_LATE),
            Decided::Approved => {
                self.become_(State::Approved, "");
                self.record.approved_at_ms = Some(self.now_ms);
                if self.record.moves_limits() {
                    self.follows.push(Follows::MakePlans);
                }
            }
        }
        Ok(())
    }

    /// Whether the least delay does not fit before the effective time any more.
    const fn is_too_late(&self) -> bool {
        let times = &self.record.times;
        // An emergency takes effect as soon as it is approved.
        times.emergency.is_none() && self.now_ms.saturating_add(times.delay_ms_min) > times.effective_at_ms
    }

    /// The quorum agrees still, or agrees no more, when the change is to come into force.
    fn decide_apply(&mut self, decided: Decided) -> Result<(), LifeFault> {
        if self.now_ms < self.record.times.effective_at_ms {
            return Err(self.not_now("its effective time has not come"));
        }
        if self.now_ms > self.record.times.apply_by_ms {
            self.end(State::Expired, UNAPPLIED);
            return Ok(());
        }
        match decided {
            Decided::Approved => {
                self.become_(State::InForce, "");
                self.follows.push(Follows::PutInForce);
                if self.record.kind == Kind::RevokePolicy {
                    self.follows.push(Follows::RestoreBaseline);
                }
            }
            Decided::Pending(missing) => {
                self.end(State::Rejected, &format!("whoever approved it may not any more: {missing} must approve"));
            }
            Decided::Rejected(block) => self.end(State::Rejected, &block.to_string()),
            Decided::Expired(expiry) => self.end(State::Expired, &expiry.to_string()),
        }
        Ok(())
    }

    fn planned(&mut self) -> Result<(), LifeFault> {
        if self.record.state != State::Approved || !self.record.moves_limits() {
            return Err(self.not_now("plans are made of what was approved, once"));
        }
        self.in_time()?;
        self.become_(State::Shaping, "");
        Ok(())
    }

    fn cannot(&mut self, why: String) -> Result<(), LifeFault> {
        match self.record.state {
            State::Proposed | State::Approving | State::Approved | State::Shaping => {
                self.end(State::Rejected, &why);
                Ok(())
            }
            _ => Err(self.not_now("it is decided")),
        }
    }

    fn aligned(&mut self) -> Result<(), LifeFault> {
        match self.record.state {
            State::Shaping | State::InForce => {
                self.record.aligned_at_ms.get_or_insert(self.now_ms);
                self.record.why = None;
                Ok(())
            }
            _ => Err(self.not_now("nothing moves for it")),
        }
    }

    fn deviated(&mut self, why: String) -> Result<(), LifeFault> {
        match self.record.state {
            State::Shaping | State::InForce => {
                // One deviation opens one review, until everything is as planned again.
                let is_news = self.record.why.is_none();
                self.record.aligned_at_ms = None;
                if is_news {
                    self.record.why = Some(Text::lossy(&why));
                    self.follows.push(Follows::Leaf(self.record.state, why.clone()));
                    self.follows.push(Follows::Tell(Notice::Review(why)));
                }
                Ok(())
            }
            _ => Err(self.not_now("nothing moves for it")),
        }
    }

    fn withdraw(&mut self, by: &Word) -> Result<(), LifeFault> {
        match self.record.state {
            State::InForce => Err(self.not_now("a policy in force is revoked by a change of its own")),
            state if state.is_over() => Err(self.not_now("it is over")),
            _ => {
                self.end(State::Withdrawn, &format!("taken back by {by}"));
                Ok(())
            }
        }
    }

    fn replaced(&mut self, is_revoked: bool) -> Result<(), LifeFault> {
        if self.record.state != State::InForce {
            return Err(self.not_now("it does not hold"));
        }
        let why = if is_revoked { "its policy was revoked" } else { "another document took its place" };
        self.become_(State::Revoked, why);
        Ok(())
    }

    fn restored(&mut self) -> Result<(), LifeFault> {
        if self.record.state != State::Revoked {
            return Err(self.not_now("it did not hold before"));
        }
        self.become_(State::InForce, "what took its place is over");
        self.record.why = None;
        Ok(())
    }

    fn reviewed(&mut self) -> Result<(), LifeFault> {
        let was_in_force = matches!(self.record.state, State::InForce | State::Revoked);
        if self.record.times.emergency.is_none() || !was_in_force {
            return Err(self.not_now("what is reviewed is an emergency or a freeze that was in force"));
        }
        let reviewed = match self.record.reviewed {
            None => Reviewed::InTime,
            Some(Reviewed::Overdue) => Reviewed::Late,
            Some(Reviewed::InTime | Reviewed::Late) => return Err(self.not_now("it was reviewed")),
        };
        self.record.reviewed = Some(reviewed);
        let why = if reviewed == Reviewed::Late { REVIEWED_LATE } else { "reviewed in time" };
        self.follows.push(Follows::Leaf(self.record.state, why.to_owned()));
        Ok(())
    }
}
