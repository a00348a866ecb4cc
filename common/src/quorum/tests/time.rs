//! The clocks: approve-by, apply-by, the least delay, escalation, keys' times.

use super::fixture::{
    HOUR_MS, MINUTE_MS, PEOPLE, RULES, World, approvals, decided_at, notes, roster_text, t0, vote_at,
};
use crate::quorum::decide::{Case, Decided, Expiry, Inadmissible, Moment, NotCounted, admit};
use crate::quorum::roster::Roster;
use crate::quorum::rules::Rules;
use crate::quorum::vote::Verb;

#[test]
fn a_change_that_is_not_approved_in_time_is_denied() {
    let world = World::new();
    let text = world.text(|_| ());
    let votes = approvals(&text, &["bob", "carol"]);
    let by_ms = text.change().approve_by_ms;
    assert!(decided_at(&world, &text, &votes, Moment::Approval, by_ms).is_approved());
    let late = decided_at(&world, &text, &votes, Moment::Approval, by_ms + 1);
    assert_eq!(late.decided, Decided::Expired(Expiry::ApproveBy));
    let late_vote = [votes[0].clone(), vote_at(&text, "carol", Verb::Approval, by_ms + 1)];
    let outcome = decided_at(&world, &text, &late_vote, Moment::Approval, by_ms);
    assert_eq!(notes(&outcome), [Ok(()), Err(NotCounted::TooLate)]);
}

#[test]
fn both_clocks_hold_at_apply() {
    let world = World::new();
    let text = world.text(|_| ());
    let votes = approvals(&text, &["bob", "carol"]);
    let (approve_by_ms, apply_by_ms) = (text.change().approve_by_ms, text.change().apply_by_ms);
    let at =
        |approved_at_ms, now_ms| decided_at(&world, &text, &votes, Moment::Apply { approved_at_ms }, now_ms).decided;
    assert_eq!(at(approve_by_ms, apply_by_ms), Decided::Approved);
    assert_eq!(at(approve_by_ms, apply_by_ms + 1), Decided::Expired(Expiry::ApplyBy));
    assert_eq!(at(approve_by_ms + 1, apply_by_ms), Decided::Expired(Expiry::ApproveBy));
}

#[test]
fn the_rules_clocks_hold_also_where_the_text_names_later_ones() {
    let rules = RULES
        .replace("approve_within_s = 7200", "approve_within_s = 600")
        .replace("apply_within_s = 86400", "apply_within_s = 1200");
    let world = World { rules: Rules::parse(rules.as_bytes()).unwrap(), ..World::new() };
    let text = world.text(|change| {
        change.effective_ms = t0() + 30 * MINUTE_MS;
    });
    let votes = approvals(&text, &["bob", "carol"]);
    let late = decided_at(&world, &text, &votes, Moment::Vote, t0() + 10 * MINUTE_MS + 1);
    assert_eq!(late.decided, Decided::Expired(Expiry::ApproveBy));
    let apply = Moment::Apply { approved_at_ms: t0() + 5 * MINUTE_MS };
    assert!(decided_at(&world, &text, &votes, apply, t0() + 25 * MINUTE_MS).is_approved());
    let late = decided_at(&world, &text, &votes, apply, t0() + 25 * MINUTE_MS + 1);
    assert_eq!(late.decided, Decided::Expired(Expiry::ApplyBy));
    let case = Case::new(&text, &[], (world.under(), world.under()), None, (Moment::Vote, t0())).unwrap();
    assert_eq!(admit(&case), Err(vec![Inadmissible::ApproveBy(600), Inadmissible::ApplyBy(1200)]));
}

#[test]
fn the_least_delay_lies_between_approval_and_the_effective_time() {
    let world = World::new();
    let text = world.text(|change| change.effective_ms = t0() + 20 * MINUTE_MS);
    let votes = approvals(&text, &["bob", "carol"]);
    assert!(decided_at(&world, &text, &votes, Moment::Approval, t0() + 10 * MINUTE_MS).is_approved());
    let late = decided_at(&world, &text, &votes, Moment::Approval, t0() + 10 * MINUTE_MS + 1);
    assert_eq!(late.decided, Decided::Expired(Expiry::Delay));
    let apply = |approved_at_ms| {
        decided_at(&world, &text, &votes, Moment::Apply { approved_at_ms }, t0() + 15 * MINUTE_MS).decided
    };
    assert_eq!(apply(t0() + 10 * MINUTE_MS), Decided::Approved);
    assert_eq!(apply(t0() + 10 * MINUTE_MS + 1), Decided::Expired(Expiry::Delay));
    let near = world.text(|change| change.effective_ms = t0() + 10 * MINUTE_MS - 1);
    let case = Case::new(&near, &[], (world.under(), world.under()), None, (Moment::Vote, t0())).unwrap();
    assert_eq!(admit(&case), Err(vec![Inadmissible::Delay(600)]));
}

#[test]
fn escalation_adds_approvers_and_never_lowers_the_bar() {
    let world = World::new();
    let text = world.text(|_| ());
    let at = |people: &[&str], minutes| {
        let votes = approvals(&text, people);
        decided_at(&world, &text, &votes, Moment::Vote, t0() + minutes * MINUTE_MS)
    };
    assert_eq!(notes(&at(&["frank"], 29)), [Err(NotCounted::NotApprover)]);
    assert_eq!(notes(&at(&["frank"], 30)), [Ok(())]);
    // One manager more is one vote, and no security.
    assert!(!at(&["frank"], 59).is_approved() && !at(&["frank", "bob"], 59).is_approved());
    assert!(at(&["frank", "carol"], 30).is_approved());
    assert_eq!(at(&["frank"], 61).decided, Decided::Expired(Expiry::ApproveBy));
}

#[test]
fn a_clock_that_steps_back_never_makes_less_be_asked_for() {
    let world = World::new();
    let text = world.text(|_| ());
    let votes = approvals(&text, &["frank", "carol"]);
    let apply = Moment::Apply { approved_at_ms: t0() + 40 * MINUTE_MS };
    assert!(decided_at(&world, &text, &votes, apply, t0() + 41 * MINUTE_MS).is_approved());
    assert!(!decided_at(&world, &text, &votes, apply, t0() + 5 * MINUTE_MS).is_approved());
    assert!(!decided_at(&world, &text, &votes, apply, 0).is_approved());
}

#[test]
fn a_key_counts_only_in_its_time_at_the_vote_and_at_the_decision() {
    let limited =
        roster_text(3, &PEOPLE[..3]) + "valid_from = 2026-11-23T07:05:00Z\nvalid_until = 2026-11-23T07:30:00Z\n";
    let world = World { roster: Roster::parse(limited.as_bytes()).unwrap(), ..World::new() };
    let text = world.text(|_| ());
    let at = |cast, now| {
        let votes = [vote_at(&text, "carol", Verb::Approval, t0() + cast * MINUTE_MS)];
        notes(&decided_at(&world, &text, &votes, Moment::Vote, t0() + now * MINUTE_MS))[0]
    };
    assert_eq!(at(5, 5), Ok(()));
    assert_eq!(at(4, 5), Err(NotCounted::KeyNotValid));
    assert_eq!(at(5, 30), Err(NotCounted::KeyNotValid));
    assert_eq!(at(30, 29), Err(NotCounted::KeyNotValid));
}

#[test]
fn a_vote_after_the_approval_can_take_a_removed_members_place() {
    let world = World::new();
    let text = world.text(|_| ());
    let votes =
        [vote_at(&text, "bob", Verb::Approval, t0()), vote_at(&text, "dave", Verb::Approval, t0() + 30 * MINUTE_MS)];
    let apply = Moment::Apply { approved_at_ms: t0() + 10 * MINUTE_MS };
    assert!(decided_at(&world, &text, &votes, apply, t0() + HOUR_MS).is_approved());
}
