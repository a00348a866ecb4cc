//! Freezes: one operator holds a change where it is, for a time, and it is looked at afterwards.

use quotary_common::id::ChangeId;
use quotary_common::quorum::change::Way;
use quotary_common::quorum::vote::Verb;
use quotary_common::reason::Reason;
use quotary_common::wire::ChangeSubject;

use super::fixture::{GIB, MINUTE_MS, Verifier, policy, revoke};
use crate::policy::life::{Reviewed, State};

fn freeze(id: ChangeId) -> ChangeSubject {
    ChangeSubject::Freeze(id.to_string())
}

/// A freeze of 20 minutes that alice asked for and approved herself, in force.
fn frozen(verifier: &mut Verifier, id: ChangeId) -> ChangeId {
    let freeze = verifier.propose_by("alice", &freeze(id), Way::Freeze, None).unwrap();
    assert_eq!(verifier.book.held_until_ms(&id), None, "nobody has approved it yet");
    verifier.vote(freeze, "alice", Verb::Approval).unwrap();
    verifier.later(0);
    assert_eq!(verifier.state(freeze), State::InForce);
    freeze
}

#[test]
fn one_operator_holds_a_change_and_it_goes_on_when_the_freeze_has_ended() {
    let mut verifier = Verifier::new();
    let before = verifier.in_force(&policy(1, 4 * GIB));
    let id = verifier.moving(&policy(2, GIB), 10);
    verifier.later(5);
    let began_ms = verifier.now_ms;
    let freeze = frozen(&mut verifier, id);
    assert_eq!(verifier.book.change(&freeze).unwrap().holds(), Some(id));
    assert_eq!(verifier.book.held_until_ms(&id), Some(began_ms + 20 * MINUTE_MS));
    assert!(verifier.book.is_of_freeze(&id, began_ms) && !verifier.book.is_of_freeze(&id, began_ms - 1));
    // Past its effective time nothing came into force, nothing was taken out, and nothing has to be done each second.
    verifier.later(10);
    assert_eq!((verifier.state(id), verifier.state(before)), (State::Shaping, State::InForce));
    assert_eq!(verifier.limit(), Some(4 * GIB));
    assert!(!verifier.book.is_due(verifier.now_ms));
    verifier.later(10);
    assert_eq!((verifier.state(freeze), verifier.state(id)), (State::Revoked, State::InForce), "one tick does both");
    assert_eq!((verifier.limit(), verifier.book.held_until_ms(&id)), (Some(GIB), None));
    let thawed_ms = verifier.now_ms;
    assert!(verifier.book.is_of_freeze(&id, thawed_ms) && !verifier.book.is_of_freeze(&id, thawed_ms + 1));
    verifier.vote(freeze, "carol", Verb::Review).unwrap();
    assert_eq!(verifier.book.change(&freeze).unwrap().record().reviewed, Some(Reviewed::InTime));
}

#[test]
fn a_freeze_outlasts_no_apply_by_time_and_goes_with_no_other_change() {
    let mut verifier = Verifier::new();
    let id = verifier.moving(&policy(1, GIB), 110);
    let apply_by_ms = verifier.book.change(&id).unwrap().record().times.apply_by_ms;
    verifier.later(109);
    verifier.now_ms = verifier.now_ms.max(apply_by_ms - 10 * MINUTE_MS);
    assert_eq!(verifier.state(id), State::Shaping);
    let freeze = frozen(&mut verifier, id);
    verifier.now_ms = apply_by_ms;
    verifier.later(0);
    assert_eq!((verifier.state(id), verifier.state(freeze)), (State::Shaping, State::InForce));
    verifier.later(1);
    assert_eq!(verifier.state(id), State::Expired);
    verifier.later(20);
    assert_eq!((verifier.state(freeze), verifier.limit()), (State::Revoked, None));
}

#[test]
fn what_does_not_move_is_not_held_nor_what_is_held_already_and_others_than_operators_hold_nothing() {
    let mut verifier = Verifier::new();
    let refused = |verifier: &mut Verifier, id, way| verifier.propose_by("alice", &freeze(id), way, None).unwrap_err();
    assert_eq!(refused(&mut verifier, ChangeId::new([9; 32]), Way::Freeze).reason, Reason::NotFound);
    let open = verifier.propose("alice", &policy(1, GIB), 10).unwrap();
    assert!(refused(&mut verifier, open, Way::Freeze).detail.as_str().contains("approving"));
    verifier.withdraw(open, "alice").unwrap();
    let id = verifier.moving(&policy(1, GIB), 60);
    assert_eq!(refused(&mut verifier, id, Way::Quorum).reason, Reason::Change);
    assert_eq!(refused(&mut verifier, id, Way::BreakGlass).reason, Reason::Change);
    assert!(verifier.propose_by("alice", &policy(1, GIB), Way::Freeze, None).is_err(), "no document of a policy");
    // A member of another role has no vote in it; that nobody rejects it the reader of votes sees to.
    let asked = verifier.propose_by("carol", &freeze(id), Way::Freeze, None).unwrap();
    verifier.vote(asked, "carol", Verb::Approval).unwrap();
    verifier.later(0);
    assert_eq!((verifier.state(asked), verifier.book.held_until_ms(&id)), (State::Approving, None));
    verifier.vote(asked, "bob", Verb::Approval).unwrap();
    verifier.later(0);
    assert!(verifier.book.held_until_ms(&id).is_some());
    assert!(refused(&mut verifier, id, Way::Freeze).detail.as_str().contains("held already"));
    assert!(refused(&mut verifier, asked, Way::Freeze).detail.as_str().contains("in force"));
    // What is held can be taken back; the freeze then holds nothing, and ends by itself.
    verifier.withdraw(id, "alice").unwrap();
    verifier.later(20);
    assert_eq!((verifier.state(id), verifier.state(asked)), (State::Withdrawn, State::Revoked));
    // Nobody looked at it in time: there is no other until somebody does.
    verifier.later(120);
    let next = verifier.moving(&policy(1, GIB), 60);
    assert!(refused(&mut verifier, next, Way::Freeze).detail.as_str().contains("review"));
    verifier.vote(asked, "dave", Verb::Review).unwrap();
    let _again = frozen(&mut verifier, next);
}

#[test]
fn a_freeze_that_was_approved_ahead_waits_for_its_time_and_moves_nothing() {
    let mut verifier = Verifier::new();
    let id = verifier.moving(&policy(1, GIB), 60);
    let at_ms = verifier.now_ms + 5 * MINUTE_MS;
    let ahead = verifier.propose_by("alice", &freeze(id), Way::Freeze, Some(at_ms)).unwrap();
    verifier.vote(ahead, "bob", Verb::Approval).unwrap();
    assert_eq!(verifier.state(ahead), State::Approved);
    assert!(!verifier.book.is_due(verifier.now_ms) && verifier.book.held_until_ms(&id).is_none());
    verifier.later(5);
    assert_eq!((verifier.state(ahead), verifier.book.held_until_ms(&id).is_some()), (State::InForce, true));
}

#[test]
fn a_freeze_of_what_came_into_force_meanwhile_holds_nothing() {
    let mut verifier = Verifier::new();
    let id = verifier.moving(&policy(1, GIB), 10);
    let late = verifier.propose_by("alice", &freeze(id), Way::Freeze, None).unwrap();
    verifier.later(10);
    assert_eq!(verifier.state(id), State::InForce);
    let _refused_or_stale = verifier.vote(late, "bob", Verb::Approval);
    verifier.later(0);
    assert_ne!(verifier.state(late), State::InForce);
    // A revocation that moves can be held as well.
    let out = verifier.moving(&revoke(), 10);
    let freeze = frozen(&mut verifier, out);
    verifier.later(15);
    assert_eq!((verifier.limit(), verifier.state(freeze)), (Some(GIB), State::InForce));
    verifier.withdraw(out, "alice").unwrap();
    assert_eq!(verifier.limit(), Some(GIB));
}
