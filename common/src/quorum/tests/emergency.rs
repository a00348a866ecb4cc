//! Break-glass and freeze: few people, a short time, a review.

use super::fixture::{HOUR_MS, MINUTE_MS, RULES, World, decided, decided_at, missing, notes, t0, vote, vote_at, word};
use crate::quorum::change::{Change, ChangeText, Way};
use crate::quorum::criticality::Criticality;
use crate::quorum::decide::{
    Block, Case, Decided, Expiry, Inadmissible, Moment, NotCounted, ReviewState, admit, decide, review,
};
use crate::quorum::rules::Rules;
use crate::quorum::vote::{CheckedVote, Verb};

fn emergency(world: &World, way: Way, edit: impl FnOnce(&mut Change)) -> ChangeText {
    world.text(|change| {
        change.way = way;
        change.effective_ms = t0() + MINUTE_MS;
        change.until_ms = Some(t0() + 4 * HOUR_MS);
        edit(change);
    })
}

fn broken(text: &ChangeText, people: &[&str]) -> Vec<CheckedVote> {
    people.iter().map(|person| vote(text, person, Verb::BreakGlass)).collect()
}

#[test]
fn break_glass_takes_its_own_role_and_two_people_where_it_is_critical() {
    let world = World::new();
    let high = emergency(&world, Way::BreakGlass, |_| ());
    assert!(decided(&world, &high, &broken(&high, &["gina"])).is_approved());
    assert_eq!(notes(&decided(&world, &high, &broken(&high, &["dave"]))), [Err(NotCounted::NotApprover)]);
    let critical = emergency(&world, Way::BreakGlass, |change| change.criticality = Criticality::Critical);
    assert_eq!(missing(&decided(&world, &critical, &broken(&critical, &["gina"]))), Some((1, vec![("rescue", 1)])));
    assert!(decided(&world, &critical, &broken(&critical, &["gina", "hugo"])).is_approved());
    assert!(!decided(&world, &critical, &broken(&critical, &["gina", "gina"])).is_approved());
}

#[test]
fn an_approval_breaks_no_glass_and_a_broken_glass_is_no_approval() {
    let world = World::new();
    let glass = emergency(&world, Way::BreakGlass, |_| ());
    let votes = [vote(&glass, "gina", Verb::Approval)];
    assert_eq!(notes(&decided(&world, &glass, &votes)), [Err(NotCounted::OtherVerb)]);
    let text = world.text(|_| ());
    assert_eq!(notes(&decided(&world, &text, &broken(&text, &["dave"]))), [Err(NotCounted::OtherVerb)]);
}

#[test]
fn who_asks_for_an_emergency_change_does_not_break_the_glass_for_it() {
    let world = World::new();
    let text = emergency(&world, Way::BreakGlass, |change| change.requester = word("gina"));
    assert_eq!(notes(&decided(&world, &text, &broken(&text, &["gina"]))), [Err(NotCounted::Excluded)]);
}

#[test]
fn an_emergency_lasts_no_longer_than_the_rules_allow_and_ends_by_itself() {
    let world = World::new();
    let long = emergency(&world, Way::BreakGlass, |change| change.until_ms = Some(t0() + 4 * HOUR_MS + 1));
    assert_eq!(decided(&world, &long, &broken(&long, &["gina"])).decided, Decided::Rejected(Block::LastsTooLong));
    let case = Case::new(&long, &[], (world.under(), world.under()), None, (Moment::Vote, t0())).unwrap();
    assert_eq!(admit(&case), Err(vec![Inadmissible::LastsTooLong(14_400)]));
    let text = emergency(&world, Way::BreakGlass, |change| change.until_ms = Some(t0() + HOUR_MS));
    let apply = Moment::Apply { approved_at_ms: t0() + 2 * MINUTE_MS };
    let at = |now_ms| decided_at(&world, &text, &broken(&text, &["gina"]), apply, now_ms).decided;
    assert_eq!(at(t0() + HOUR_MS - 1), Decided::Approved);
    assert_eq!(at(t0() + HOUR_MS), Decided::Expired(Expiry::Over));
}

#[test]
fn rules_that_know_no_emergency_allow_none() {
    let without = RULES.split("[break_glass]").next().unwrap();
    let world = World { rules: Rules::parse(without.as_bytes()).unwrap(), ..World::new() };
    for way in [Way::BreakGlass, Way::Freeze] {
        let text = emergency(&world, way, |_| ());
        let votes = [vote(&text, "gina", Verb::BreakGlass), vote(&text, "bob", Verb::Approval)];
        assert_eq!(decided(&world, &text, &votes).decided, Decided::Rejected(Block::NoEmergency));
    }
}

#[test]
fn one_operator_freezes_even_his_own_change_and_nobody_holds_that_up() {
    let world = World::new();
    let text = emergency(&world, Way::Freeze, |_| ());
    let votes = [vote(&text, "alice", Verb::Approval), vote(&text, "bob", Verb::Rejection)];
    let outcome = decided(&world, &text, &votes);
    assert!(outcome.is_approved());
    assert_eq!(notes(&outcome), [Ok(()), Err(NotCounted::OtherVerb)]);
    assert!(!decided(&world, &text, &[vote(&text, "carol", Verb::Approval)]).is_approved());
}

fn reviewed(world: &World, text: &ChangeText, votes: &[CheckedVote], now_ms: u64) -> ReviewState {
    let case = Case::new(text, votes, (world.under(), world.under()), None, (Moment::Vote, now_ms)).unwrap();
    review(&case)
}

#[test]
fn an_emergency_is_reviewed_by_its_own_quorum_before_its_own_deadline() {
    let world = World::new();
    let text = emergency(&world, Way::BreakGlass, |_| ());
    // A day after it ends.
    let by_ms = text.change().until_ms.unwrap() + 24 * HOUR_MS;
    let mut votes = broken(&text, &["gina", "hugo"]);
    assert_eq!(reviewed(&world, &text, &votes, by_ms), ReviewState::Due { by_ms, missing: 2 });
    assert_eq!(reviewed(&world, &text, &votes, by_ms + 1), ReviewState::Overdue { since_ms: by_ms, missing: 2 });
    // Neither who asked, nor who broke it, nor who may not approve in quiet times, nor one person twice.
    for person in ["alice", "hugo", "gina", "ivan", "bob", "bob"] {
        votes.push(vote_at(&text, person, Verb::Review, t0() + HOUR_MS));
    }
    assert_eq!(reviewed(&world, &text, &votes, by_ms), ReviewState::Due { by_ms, missing: 1 });
    votes.push(vote_at(&text, "carol", Verb::Review, by_ms + HOUR_MS));
    assert_eq!(reviewed(&world, &text, &votes, by_ms + HOUR_MS), ReviewState::Done);
    assert_eq!(reviewed(&world, &world.text(|_| ()), &[], t0()), ReviewState::NotAsked);
    // Bob and carol would have broken it, and have no say in that: they may look at it all the same.
    let mut votes = broken(&text, &["gina", "hugo", "bob", "carol"]);
    for person in ["bob", "carol"] {
        votes.push(vote_at(&text, person, Verb::Review, t0() + HOUR_MS));
    }
    assert_eq!(reviewed(&world, &text, &votes, by_ms), ReviewState::Done);
}

#[test]
fn an_unreviewed_emergency_stops_further_break_glass_and_no_freeze() {
    let world = World::new();
    let barred = |way, verb, person| {
        let text = emergency(&world, way, |_| ());
        let votes = [vote(&text, person, verb)];
        let case = Case::new(&text, &votes, (world.under(), world.under()), None, (Moment::Vote, t0() + 2 * MINUTE_MS));
        decide(&case.unwrap().with_break_glass_barred(true)).decided
    };
    assert_eq!(barred(Way::BreakGlass, Verb::BreakGlass, "gina"), Decided::Rejected(Block::ReviewOverdue));
    assert_eq!(barred(Way::Freeze, Verb::Approval, "bob"), Decided::Approved);
}
