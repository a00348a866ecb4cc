//! Whether a change may be: one pure function of its text, the votes, who decides, and the time.
//!
//! Does: counts people, not keys; holds the votes against the rules and the roster in force *and* those at creation
//! (never a lower bar), and for another roster or other rules against those too ([`decide`]); tells what a change lacks
//! that can never be approved ([`admit`]), and where the review of an emergency stands ([`review`]).
//! May assume: that a [`CheckedVote`]'s signature holds. Nothing else of it: who holds the key, and whether the person
//! may vote, is asked anew each time.
//! Promises: the order of the votes, and votes sent again, alter nothing; time alone never makes less be asked for.
//! Must never: count a person twice, or one who asked, edited last or applies.
//!
//! A vote says the same whenever it is shown again, so its meaning does not depend on order: who has withdrawn neither
//! approves nor rejects this text any more, and who has rejected does not approve it. An edit makes another text.

mod admit;
mod case;
mod eligible;
mod filling;
mod outcome;
mod review;

use std::collections::BTreeMap;

pub use self::admit::{Inadmissible, admit};
pub use self::case::{BaseNow, Case, CaseFault, Moment, Proposed, Under};
use self::eligible::Side;
pub use self::outcome::{Block, Decided, Expiry, Missing, NotCounted, Outcome, VoteNote};
pub use self::review::{ReviewState, Reviewing, review, reviewers_lacking, reviewing};
use super::change::{Kind, Way};
use super::roster::Word;
use super::vote::{CheckedVote, Verb};

/// Decides.
pub fn decide(case: &Case<'_>) -> Outcome {
    let sides = case.sides();
    let approve_by_ms = approve_by_ms(case, &sides);
    let mut notes: Vec<Result<(), NotCounted>> =
        case.votes.iter().map(|vote| screen(case, vote, approve_by_ms)).collect();
    let people = by_person(case, &notes);
    let rejecters = rejecters(case, &sides, &people, &mut notes);
    let missing = missing(case, &sides, &people, &mut notes);
    let decided = if let Some(block) = block(case, &sides, rejecters) {
        Decided::Rejected(block)
    } else if let Some(expiry) = expiry(case, &sides, approve_by_ms) {
        Decided::Expired(expiry)
    } else if missing == Missing::default() {
        Decided::Approved
    } else {
        Decided::Pending(missing)
    };
    let note = |(vote, counted): (&CheckedVote, _)| VoteNote {
        name: vote.name(),
        person: vote.person().clone(),
        verb: vote.verb(),
        counted,
    };
    Outcome { decided, votes: case.votes.iter().zip(notes).map(note).collect() }
}

/// The earlier of the text's approve-by and what the rules allow.
fn approve_by_ms(case: &Case<'_>, sides: &[Side<'_>]) -> u64 {
    let change = case.text.change();
    let within_ms = sides.iter().flat_map(Side::rules).map(|rule| rule.approve_within_ms).min().unwrap_or(0);
    change.approve_by_ms.min(change.proposed_ms.saturating_add(within_ms))
}

/// Whether a vote is of any account here, whoever gave it.
fn screen(case: &Case<'_>, vote: &CheckedVote, approve_by_ms: u64) -> Result<(), NotCounted> {
    if vote.text() != case.text.digest() {
        return Err(NotCounted::Dismissed);
    }
    // A review is counted apart.
    let is_known = vote.verb() != Verb::Review && vote.verb().is_taken_by(case.text.change().way);
    if !is_known {
        return Err(NotCounted::OtherVerb);
    }
    // Once approved, nobody takes back or blocks; who comes in place of a removed member may still approve.
    let last_ms = match (case.moment, vote.verb()) {
        (Moment::Apply { approved_at_ms }, Verb::Rejection | Verb::Withdrawal) => approve_by_ms.min(approved_at_ms),
        _ => approve_by_ms,
    };
    if vote.cast_at_ms() > last_ms { Err(NotCounted::TooLate) } else { Ok(()) }
}

/// What one person signed of this text: places in the case's votes.
#[derive(Debug, Default)]
struct Said {
    approvals: Vec<usize>,
    rejections: Vec<usize>,
    withdrawals: Vec<usize>,
}

fn by_person<'a>(case: &Case<'a>, notes: &[Result<(), NotCounted>]) -> BTreeMap<&'a Word, Said> {
    let mut people: BTreeMap<&Word, Said> = BTreeMap::new();
    for (place, vote) in case.votes.iter().enumerate().filter(|(place, _)| notes.get(*place) == Some(&Ok(()))) {
        let said = people.entry(vote.person()).or_default();
        match vote.verb() {
            Verb::Rejection => said.rejections.push(place),
            Verb::Withdrawal => said.withdrawals.push(place),
            _ => said.approvals.push(place),
        }
    }
    people
}

/// Sets the notes of votes at `places`.
fn note(notes: &mut [Result<(), NotCounted>], places: &[usize], why: NotCounted) {
    for place in places {
        if let Some(note) = notes.get_mut(*place) {
            *note = Err(why);
        }
    }
}

/// Whether one of the votes at `places` is the person's own under any side.
fn is_own(case: &Case<'_>, sides: &[Side<'_>], places: &[usize]) -> bool {
    let votes = places.iter().filter_map(|place| case.votes.get(*place));
    votes.into_iter().any(|vote| sides.iter().any(|side| side.authentic(vote, case.keys_at_ms).is_ok()))
}

/// Who blocks: their rejection counts under what is in force, or under what would be.
fn rejecters<'a>(
    case: &Case<'a>,
    sides: &[Side<'a>],
    people: &BTreeMap<&'a Word, Said>,
    notes: &mut [Result<(), NotCounted>],
) -> Vec<&'a Word> {
    let mut found = Vec::new();
    for (person, said) in people {
        if is_own(case, sides, &said.withdrawals) {
            note(notes, &said.rejections, NotCounted::Withdrawn);
            continue;
        }
        let mut has_counted = false;
        for place in &said.rejections {
            let Some(vote) = case.votes.get(*place) else { continue };
            let counts = sides.iter().map(|side| side.may_reject(vote, case.keys_at_ms));
            match counts.reduce(|first, second| if second.is_ok() { second } else { first }) {
                Some(Ok(())) if !has_counted => has_counted = true,
                Some(Ok(())) => note(notes, &[*place], NotCounted::SamePerson),
                Some(Err(why)) => note(notes, &[*place], why),
                None => {}
            }
        }
        if has_counted {
            found.push(*person);
        }
    }
    found
}

/// What the approvals lack under all sides.
fn missing<'a>(
    case: &Case<'a>,
    sides: &[Side<'a>],
    people: &BTreeMap<&'a Word, Said>,
    notes: &mut [Result<(), NotCounted>],
) -> Missing {
    let mut counted: Vec<Vec<&Word>> = vec![Vec::new(); sides.len()];
    for (person, said) in people {
        // A rejection outweighs an approval as soon as it is the person's own.
        let why_not = if is_own(case, sides, &said.withdrawals) {
            Some(NotCounted::Withdrawn)
        } else {
            is_own(case, sides, &said.rejections).then_some(NotCounted::Rejected)
        };
        match why_not {
            Some(why) => note(notes, &said.approvals, why),
            None => count_approvals(case, sides, (person, said), (&mut counted, notes)),
        }
    }
    let mut missing = Missing::default();
    for (side, people) in sides.iter().zip(&counted) {
        side.add_missing(people, &mut missing);
    }
    missing
}

/// Counts a person once on each side where one of the approvals counts.
fn count_approvals<'a>(
    case: &Case<'a>,
    sides: &[Side<'a>],
    (person, said): (&&'a Word, &Said),
    (counted, notes): (&mut [Vec<&'a Word>], &mut [Result<(), NotCounted>]),
) {
    let mut is_on = vec![false; sides.len()];
    for place in &said.approvals {
        let Some(vote) = case.votes.get(*place) else { continue };
        let (mut adds, mut repeats, mut why_not) = (false, false, None);
        for ((side, is_on), people) in sides.iter().zip(&mut is_on).zip(counted.iter_mut()) {
            match side.may_approve(vote, case.keys_at_ms) {
                Ok(()) if *is_on => repeats = true,
                Ok(()) => {
                    (adds, *is_on) = (true, true);
                    people.push(person);
                }
                Err(why) => why_not = why_not.or(Some(why)),
            }
        }
        let why_not = if repeats { Some(NotCounted::SamePerson) } else { why_not };
        if let (false, Some(why)) = (adds, why_not) {
            note(notes, &[*place], why);
        }
    }
}

/// What stands against it whoever approves.
fn block(case: &Case<'_>, sides: &[Side<'_>], rejecters: Vec<&Word>) -> Option<Block> {
    let change = case.text.change();
    let vetoes = sides.iter().flat_map(Side::rules).map(|rule| rule.vetoes).min().unwrap_or(1);
    if rejecters.len() >= vetoes.max(1) {
        return Some(Block::By(rejecters.into_iter().cloned().collect()));
    }
    if let (Some(until_ms), Some(lasts_ms_max)) = (change.until_ms, sides.first().map(Side::lasts_ms_max)) {
        match lasts_ms_max {
            None => return Some(Block::NoEmergency),
            Some(most_ms) if until_ms - change.proposed_ms.min(until_ms) > most_ms => return Some(Block::LastsTooLong),
            Some(_) => {}
        }
    }
    if change.way == Way::BreakGlass && case.is_break_glass_barred {
        return Some(Block::ReviewOverdue);
    }
    let (base_now, version_now) = match change.kind {
        Kind::Roster => (BaseNow::Is(Some(case.current.roster.digest())), Some(case.current.roster.version())),
        Kind::Rules => (BaseNow::Is(Some(case.current.rules.digest())), Some(case.current.rules.version())),
        _ => (case.base_now, None),
    };
    if base_now != BaseNow::NotKnown && base_now != BaseNow::Is(change.base) {
        return Some(Block::BaseMoved);
    }
    let is_above = case.proposed.is_none_or(|proposed| version_now.is_none_or(|now| proposed.version() > now));
    if is_above { None } else { Some(Block::VersionNotAbove) }
}

/// Which time has passed. Both clocks and the least delay are the stricter of the text's and the rules'.
fn expiry(case: &Case<'_>, sides: &[Side<'_>], approve_by_ms: u64) -> Option<Expiry> {
    let change = case.text.change();
    let rules = || sides.iter().flat_map(Side::rules);
    let (approved_at_ms, apply_by_ms) = match case.moment {
        Moment::Vote | Moment::Approval => (case.now_ms, change.apply_by_ms),
        Moment::Apply { approved_at_ms } => {
            let within_ms = rules().map(|rule| rule.apply_within_ms).min().unwrap_or(0);
            (approved_at_ms, change.apply_by_ms.min(approved_at_ms.saturating_add(within_ms)))
        }
    };
    // What an emergency does, it does at once.
    let delay_ms = if change.way == Way::Quorum { rules().map(|rule| rule.delay_ms_min).max().unwrap_or(0) } else { 0 };
    if approved_at_ms > approve_by_ms {
        Some(Expiry::ApproveBy)
    } else if case.now_ms > apply_by_ms {
        Some(Expiry::ApplyBy)
    } else if delay_ms > 0 && approved_at_ms.saturating_add(delay_ms) > change.effective_ms {
        Some(Expiry::Delay)
    } else {
        change.until_ms.filter(|until_ms| case.now_ms >= *until_ms).map(|_| Expiry::Over)
    }
}
