//! What is let go of, and what is not.

use quotary_common::id::ChangeId;
use quotary_common::quorum::change::Way;
use quotary_common::quorum::vote::Verb;

use super::fixture::{GIB, MINUTE_MS, Verifier, policy};
use crate::policy::life::{Input, State};

/// More changes that are over than are kept.
const CROWD: u32 = 4_200;

#[test]
fn what_an_emergency_puts_back_outlasts_a_crowd_of_changes_that_are_over() {
    let mut verifier = Verifier::new();
    let before = verifier.in_force(&policy(1, 4 * GIB));
    let id = verifier.propose_by("alice", &policy(2, GIB), Way::BreakGlass, None).unwrap();
    verifier.vote(id, "erin", Verb::BreakGlass).unwrap();
    verifier.vote(id, "frank", Verb::BreakGlass).unwrap();
    verifier.told(id, Input::Planned).unwrap();
    verifier.later(0);
    assert_eq!((verifier.state(before), verifier.state(id)), (State::Revoked, State::InForce));
    // Since then more was asked for and taken back than is kept: what was over before all of it would be the first to go.
    verifier.now_ms += MINUTE_MS;
    let first = verifier.crowd(CROWD);
    verifier.later_unwritten(0);
    assert!(verifier.book.change(&first).is_err(), "the oldest of the crowd is gone");
    assert!(verifier.book.changes().len() < CROWD as usize);
    assert!(verifier.book.change(&before).is_ok(), "what the emergency stands before is not");
    verifier.later_unwritten(20);
    assert_eq!((verifier.state(id), verifier.state(before)), (State::Revoked, State::InForce));
    assert_eq!(verifier.limit(), Some(4 * GIB));
    let kept: Vec<ChangeId> = verifier.book.policies().values().map(|held| held.change).collect();
    assert_eq!(kept, [before]);
}
