//! Changes by quorum.

use quotary_common::quorum::vote::Verb;
use quotary_common::wire::ChangeSubject;

use super::fixture::{GIB, PEOPLE, Verifier, policy, revoke, roster};
use crate::change::Effect;
use crate::policy::life::{Input, State};

#[test]
fn a_policy_is_in_force_by_its_quorum_at_its_time_and_gone_by_another() {
    let mut verifier = Verifier::new();
    let id = verifier.propose("alice", &policy(1, 2 * GIB), 10).unwrap();
    assert_eq!(verifier.state(id), State::Approving);
    assert!(!verifier.book.change(&id).unwrap().impact().is_empty());
    verifier.vote(id, "alice", Verb::Approval).unwrap();
    verifier.vote(id, "bob", Verb::Approval).unwrap();
    assert_eq!((verifier.state(id), verifier.book.change(&id).unwrap().decision()), (State::Approving, None));
    verifier.vote(id, "carol", Verb::Approval).unwrap();
    assert_eq!(verifier.state(id), State::Approved);
    assert!(verifier.effects.contains(&Effect::MakePlans(id)));
    verifier.told(id, Input::Planned).unwrap();
    verifier.later(9);
    assert_eq!((verifier.state(id), verifier.limit()), (State::Shaping, None));
    verifier.later(1);
    assert_eq!((verifier.state(id), verifier.limit()), (State::InForce, Some(2 * GIB)));
    verifier.told(id, Input::Aligned).unwrap();
    assert!(verifier.book.change(&id).unwrap().record().aligned_at_ms.is_some());
    let gone = verifier.in_force(&revoke());
    assert_eq!((verifier.state(id), verifier.limit()), (State::Revoked, None));
    assert!(verifier.effects.contains(&Effect::RestoreBaseline(gone)));
}

#[test]
fn what_was_approved_before_an_edit_is_not_approved_after_it() {
    let mut verifier = Verifier::new();
    let id = verifier.propose("alice", &policy(1, 2 * GIB), 30).unwrap();
    verifier.vote(id, "bob", Verb::Approval).unwrap();
    verifier.edit(id, "dave", &policy(1, 3 * GIB), 30).unwrap();
    verifier.vote(id, "carol", Verb::Approval).unwrap();
    assert_eq!(verifier.state(id), State::Approving, "bob has approved another text, and dave wrote this one");
    verifier.vote(id, "dave", Verb::Approval).unwrap();
    assert_eq!(verifier.state(id), State::Approving);
    verifier.vote(id, "bob", Verb::Approval).unwrap();
    assert_eq!(verifier.state(id), State::Approved);
    assert!(verifier.edit(id, "alice", &revoke(), 30).is_err(), "an edit is for the same policy, in the same way");
}

#[test]
fn one_rejection_ends_it_and_only_who_asked_takes_it_back() {
    let mut verifier = Verifier::new();
    let rejected = verifier.propose("alice", &policy(1, GIB), 10).unwrap();
    verifier.vote(rejected, "carol", Verb::Rejection).unwrap();
    assert_eq!(verifier.state(rejected), State::Rejected);
    let withdrawn = verifier.propose("alice", &policy(1, GIB), 10).unwrap();
    assert!(verifier.withdraw(withdrawn, "bob").is_err());
    verifier.vote(withdrawn, "bob", Verb::Approval).unwrap();
    verifier.vote(withdrawn, "carol", Verb::Approval).unwrap();
    verifier.told(withdrawn, Input::Planned).unwrap();
    verifier.withdraw(withdrawn, "alice").unwrap();
    assert!(verifier.effects.contains(&Effect::MakePlansBack(withdrawn)));
    verifier.later(20);
    assert_eq!((verifier.state(withdrawn), verifier.limit()), (State::Withdrawn, None));
}

#[test]
fn of_two_changes_of_one_policy_the_later_must_be_edited() {
    let mut verifier = Verifier::new();
    let _held = verifier.in_force(&policy(1, 4 * GIB));
    let first = verifier.propose("alice", &policy(2, 3 * GIB), 10).unwrap();
    let second = verifier.propose("bob", &policy(2, 2 * GIB), 20).unwrap();
    for who in ["bob", "carol"] {
        verifier.vote(first, who, Verb::Approval).unwrap();
    }
    verifier.told(first, Input::Planned).unwrap();
    for who in ["alice", "carol"] {
        verifier.vote(second, who, Verb::Approval).unwrap();
    }
    verifier.told(second, Input::Planned).unwrap();
    verifier.later(10);
    assert_eq!((verifier.state(first), verifier.limit()), (State::InForce, Some(3 * GIB)));
    verifier.later(10);
    assert_eq!(
        (verifier.state(second), verifier.limit()),
        (State::Rejected, Some(3 * GIB)),
        "it was made of another document"
    );
}

#[test]
fn another_roster_takes_the_quorum_of_both_and_decides_from_then_on() {
    let mut verifier = Verifier::new();
    let waiting = verifier.propose("alice", &policy(1, GIB), 50).unwrap();
    verifier.vote(waiting, "bob", Verb::Approval).unwrap();
    // Bob leaves, and George comes.
    let next: Vec<(&str, &str)> =
        PEOPLE.iter().copied().filter(|(name, _)| *name != "bob").chain([("george", "operator")]).collect();
    let change = ChangeSubject::Roster(roster(2, &next));
    let id = verifier.propose("alice", &change, 10).unwrap();
    verifier.vote(id, "bob", Verb::Approval).unwrap();
    verifier.vote(id, "carol", Verb::Approval).unwrap();
    assert_eq!(verifier.state(id), State::Approving, "under the new roster bob is nobody");
    verifier.vote(id, "dave", Verb::Approval).unwrap();
    assert_eq!(verifier.state(id), State::Approved);
    verifier.later(10);
    assert_eq!(verifier.state(id), State::InForce);
    let governing = verifier.book.governing().unwrap();
    assert_eq!((governing.pin().number, governing.links().len(), governing.roster().version()), (1, 1, 2));
    // What bob approved before counts no more; what george says does.
    verifier.vote(waiting, "carol", Verb::Approval).unwrap();
    assert_eq!(verifier.state(waiting), State::Approving);
    assert!(verifier.propose("alice", &change, 10).is_err(), "its version is not above that in force");
}

#[test]
fn what_nobody_could_approve_or_nothing_could_hold_is_refused_at_once() {
    let mut verifier = Verifier::new();
    for (why, subject, minutes) in [
        ("the effective time is too near", policy(1, GIB), 0),
        ("the effective time is too far", policy(1, GIB), 10_000),
        ("nothing of this name is in force", revoke(), 10),
        ("it does not read", ChangeSubject::Policy("name = 3".to_owned()), 10),
        ("a roster of nobody", ChangeSubject::Roster(roster(2, &[("alice", "operator")])), 10),
        ("the same rules", ChangeSubject::Rules(super::fixture::RULES.to_owned()), 10),
    ] {
        assert!(verifier.propose("alice", &subject, minutes).is_err(), "{why}");
    }
    let too_much = ChangeSubject::Policy(
        "name = 'big'\nversion = 1\ncriticality = 'low'\n[select]\napplication = 'web'\n[guarantee]\nmemory_bytes = 99999999999\n"
            .to_owned(),
    );
    let refused = verifier.propose("alice", &too_much, 10).unwrap_err();
    assert!(refused.detail.as_str().contains("missing"), "{refused:?}");
    assert!(verifier.book.changes().is_empty() && verifier.effects.is_empty());
}

#[test]
fn what_has_been_over_for_a_year_is_let_go_of_unless_something_rests_on_it() {
    let mut verifier = Verifier::new();
    let rejected = verifier.propose("alice", &policy(1, GIB), 10).unwrap();
    verifier.vote(rejected, "carol", Verb::Rejection).unwrap();
    let held = verifier.in_force(&policy(1, 2 * GIB));
    verifier.later(365 * 1_440);
    assert_eq!(verifier.book.changes().len(), 2);
    verifier.later(2 * 1_440);
    assert!(verifier.effects.ends_with(&[Effect::Change(rejected)]));
    assert_eq!(verifier.book.changes().keys().copied().collect::<Vec<_>>(), [held]);
    assert!(!verifier.book.is_due(verifier.now_ms));
}
