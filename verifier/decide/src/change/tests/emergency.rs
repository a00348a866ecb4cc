//! Breaking the glass: at once, for a time, and looked at afterwards.

use quotary_common::id::ChangeId;
use quotary_common::quorum::change::Way;
use quotary_common::quorum::vote::Verb;
use quotary_common::wire::ChangeSubject;

use super::fixture::{GIB, MINUTE_MS, Verifier, policy, revoke};
use crate::policy::life::{Input, Reviewed, State};

#[test]
fn an_emergency_holds_when_two_have_broken_the_glass_and_ends_by_itself() {
    let mut verifier = Verifier::new();
    let before = verifier.in_force(&policy(1, 4 * GIB));
    let id = verifier.propose_by("alice", &policy(2, GIB), Way::BreakGlass, None).unwrap();
    verifier.later(1);
    verifier.vote(id, "erin", Verb::BreakGlass).unwrap();
    assert_eq!(verifier.state(id), State::Approving);
    verifier.vote(id, "frank", Verb::BreakGlass).unwrap();
    assert_eq!(verifier.state(id), State::Approved);
    verifier.told(id, Input::Planned).unwrap();
    verifier.later(0);
    assert_eq!((verifier.state(id), verifier.limit()), (State::InForce, Some(GIB)));
    assert_eq!(verifier.state(before), State::Revoked);
    verifier.later(30);
    assert_eq!((verifier.state(id), verifier.limit()), (State::Revoked, Some(4 * GIB)), "what held before holds again");
    assert_eq!(verifier.state(before), State::InForce);
    verifier.vote(id, "carol", Verb::Review).unwrap();
    assert_eq!(verifier.book.change(&id).unwrap().record().reviewed, Some(Reviewed::InTime));
}

/// An emergency of 20 minutes, in force.
fn broken(verifier: &mut Verifier, subject: &ChangeSubject) -> ChangeId {
    let id = verifier.propose_by("alice", subject, Way::BreakGlass, None).unwrap();
    verifier.vote(id, "erin", Verb::BreakGlass).unwrap();
    verifier.vote(id, "frank", Verb::BreakGlass).unwrap();
    verifier.told(id, Input::Planned).unwrap();
    verifier.later(0);
    assert_eq!(verifier.state(id), State::InForce);
    id
}

#[test]
fn of_two_emergencies_over_one_policy_neither_outlasts_its_time() {
    let mut verifier = Verifier::new();
    let before = verifier.in_force(&policy(1, 4 * GIB));
    let first = broken(&mut verifier, &policy(2, GIB));
    verifier.later(10);
    let second = broken(&mut verifier, &policy(3, 2 * GIB));
    assert_eq!((verifier.state(first), verifier.limit()), (State::Revoked, Some(2 * GIB)));
    verifier.later(20);
    assert_eq!((verifier.state(second), verifier.limit()), (State::Revoked, Some(4 * GIB)), "the first is over too");
    assert_eq!((verifier.state(first), verifier.state(before)), (State::Revoked, State::InForce));
    // The first still has its time when the second is over: it has the rest of it.
    verifier.vote(first, "carol", Verb::Review).unwrap();
    let long = broken(&mut verifier, &policy(4, GIB));
    let ends_at_ms = verifier.now_ms + 20 * MINUTE_MS;
    verifier.now_ms += MINUTE_MS;
    let out = broken(&mut verifier, &revoke());
    assert_eq!(verifier.limit(), None);
    verifier.now_ms = ends_at_ms - 1;
    verifier.later(0);
    assert_eq!((verifier.state(long), verifier.state(out)), (State::Revoked, State::InForce));
    verifier.later(2);
    assert_eq!((verifier.state(out), verifier.limit()), (State::Revoked, Some(4 * GIB)));
    assert_eq!(verifier.state(before), State::InForce);
}

#[test]
fn who_left_an_emergency_without_review_breaks_no_glass_until_it_is_done() {
    let mut verifier = Verifier::new();
    let id = verifier.propose_by("alice", &policy(1, GIB), Way::BreakGlass, None).unwrap();
    verifier.vote(id, "erin", Verb::BreakGlass).unwrap();
    verifier.vote(id, "frank", Verb::BreakGlass).unwrap();
    verifier.told(id, Input::Planned).unwrap();
    verifier.later(0);
    verifier.later(30);
    assert_eq!(verifier.limit(), None, "there was nothing before");
    verifier.later(120);
    assert_eq!(verifier.book.change(&id).unwrap().record().reviewed, Some(Reviewed::Overdue));
    let again = verifier.propose_by("alice", &policy(1, 2 * GIB), Way::BreakGlass, None).unwrap();
    verifier.vote(again, "erin", Verb::BreakGlass).unwrap();
    verifier.vote(again, "frank", Verb::BreakGlass).unwrap();
    assert_eq!(verifier.state(again), State::Approving, "the review is overdue");
    verifier.vote(id, "carol", Verb::Review).unwrap();
    assert_eq!(verifier.book.change(&id).unwrap().record().reviewed, Some(Reviewed::Late));
    assert_eq!(verifier.state(again), State::Approved, "it waited for nothing else");
}

#[test]
fn a_vote_is_taken_back_by_whom_it_is_of_and_nobody_else() {
    let mut verifier = Verifier::new();
    let id = verifier.propose("alice", &policy(1, GIB), 10).unwrap();
    let refused = verifier.vote(id, "bob", Verb::Withdrawal).unwrap_err();
    assert!(refused.detail.as_str().contains("no vote"), "{refused}");
    verifier.vote(id, "bob", Verb::Approval).unwrap();
    verifier.vote(id, "bob", Verb::Withdrawal).unwrap();
    verifier.vote(id, "carol", Verb::Approval).unwrap();
    assert_eq!(verifier.state(id), State::Approving);
}
