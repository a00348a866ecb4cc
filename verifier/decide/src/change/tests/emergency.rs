//! Breaking the glass: at once, for a time, and looked at afterwards.

use quotary_common::quorum::change::Way;
use quotary_common::quorum::vote::Verb;

use super::fixture::{GIB, Verifier, policy};
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
    verifier.vote(id, "carol", Verb::Review).unwrap();
    assert_eq!(verifier.book.change(&id).unwrap().record().reviewed, Some(Reviewed::InTime));
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
}
