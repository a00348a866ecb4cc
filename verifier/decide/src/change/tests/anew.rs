//! The root begins anew: those who decided are gone, and what they put in force stays.

use quotary_common::id::ChangeId;
use quotary_common::quorum::decision::verify;
use quotary_common::quorum::vote::Verb;
use quotary_common::wire::ChangeSubject;

use super::fixture::{GIB, PEOPLE, RULES, Verifier, policy, roster};
use crate::change::GoverningFault;
use crate::policy::life::State;

const OTHERS: [(&str, &str); 3] = [("gina", "operator"), ("hans", "security"), ("ida", "operator")];

/// A change of the roster, decided by these and in force.
fn change_roster(
    verifier: &mut Verifier,
    version: u64,
    people: &[(&str, &str)],
    [by, one, two]: [&str; 3],
) -> ChangeId {
    let id = verifier.propose(by, &ChangeSubject::Roster(roster(version, people)), 10).unwrap();
    verifier.vote(id, one, Verb::Approval).unwrap();
    verifier.vote(id, two, Verb::Approval).unwrap();
    verifier.later(10);
    assert_eq!(verifier.state(id), State::InForce);
    id
}

fn number(verifier: &Verifier) -> u64 {
    verifier.book.governing().unwrap().pin().number
}

#[test]
fn the_root_puts_others_in_the_place_of_those_who_decided_and_policies_stay() {
    let mut verifier = Verifier::new();
    let _policy = verifier.in_force(&policy(1, 2 * GIB));
    change_roster(&mut verifier, 2, &PEOPLE[..4], ["alice", "bob", "carol"]);
    let open = verifier.propose("alice", &policy(2, GIB), 40).unwrap();
    verifier.vote(open, "bob", Verb::Approval).unwrap();
    let approved = verifier.moving(&policy(3, 3 * GIB), 15);

    verifier.begin_anew(2, &roster(3, &OTHERS), RULES).unwrap();
    assert_eq!((number(&verifier), verifier.limit()), (2, Some(2 * GIB)));
    assert_eq!(verifier.walked(), *verifier.book.governing().unwrap().pin());
    verifier.later(15);
    assert_eq!(verifier.state(approved), State::Rejected, "who approved it may not any more");
    verifier.later(40);
    assert_eq!((verifier.state(open), verifier.limit()), (State::Expired, Some(2 * GIB)));

    let next = verifier.propose("gina", &policy(4, 4 * GIB), 10).unwrap();
    verifier.vote(next, "ida", Verb::Approval).unwrap();
    verifier.vote(next, "hans", Verb::Approval).unwrap();
    assert_eq!(verifier.state(next), State::Approved);
    change_roster(&mut verifier, 4, &OTHERS, ["gina", "ida", "hans"]);
    let governing = verifier.book.governing().unwrap();
    assert_eq!((governing.pin().number, verifier.walked()), (3, *governing.pin()));
    let after = [0, 1, 2, 3, 9].map(|number| governing.links_after(number).len());
    assert_eq!(after, [0, 0, 1, 0, 0]);
}

#[test]
fn the_root_begins_anew_with_the_next_number_and_no_other() {
    let mut verifier = Verifier::new();
    change_roster(&mut verifier, 2, &PEOPLE, ["alice", "bob", "carol"]);
    for wrong in [0, 1, 3] {
        let refused = verifier.begin_anew(wrong, &roster(3, &OTHERS), RULES);
        assert!(matches!(refused, Err(GoverningFault::Number(1))), "{refused:?}");
    }
    verifier.begin_anew(2, &roster(3, &OTHERS), RULES).unwrap();
    verifier.begin_anew(3, &roster(4, &PEOPLE), RULES).unwrap();
    assert_eq!((number(&verifier), verifier.walked().number), (3, 3));
}

#[test]
fn what_stands_is_decided_anew_under_who_decides_now_as_far_as_they_agree() {
    let mut verifier = Verifier::new();
    let held = verifier.in_force(&policy(1, 2 * GIB));
    let moving = verifier.moving(&policy(2, GIB), 40);
    let holds_under_the_pin = |verifier: &Verifier, id: &ChangeId| {
        let decision = verifier.book.change(id).unwrap().decision().unwrap().to_vec();
        let (pin, at_ms) = (*verifier.book.governing().unwrap().pin(), verifier.now_ms);
        verify(&decision, &pin, &pin.deployment, at_ms).is_ok()
    };
    assert!(holds_under_the_pin(&verifier, &moving));
    change_roster(&mut verifier, 2, &PEOPLE[..4], ["alice", "bob", "carol"]);
    assert!(holds_under_the_pin(&verifier, &moving) && holds_under_the_pin(&verifier, &held));
    // Bob goes: he had approved both, and what rests on him is left as it was.
    let rest = [PEOPLE[0], PEOPLE[2], PEOPLE[3]];
    change_roster(&mut verifier, 3, &rest, ["alice", "dave", "carol"]);
    assert!(!holds_under_the_pin(&verifier, &moving) && !holds_under_the_pin(&verifier, &held));
    assert!(verifier.book.change(&held).unwrap().decision().is_some());
    assert_eq!(
        verifier.state(moving),
        State::Rejected,
        "hosts would take its plans no more: what held before holds again"
    );
    verifier.later(30);
    assert_eq!((verifier.state(moving), verifier.limit()), (State::Rejected, Some(2 * GIB)));
}

#[test]
fn what_has_long_been_in_force_is_decided_anew_as_of_its_effective_time_so_that_hosts_to_come_take_it() {
    let mut verifier = Verifier::new();
    let held = verifier.in_force(&policy(1, 2 * GIB));
    verifier.later(600);
    change_roster(&mut verifier, 2, &PEOPLE[..4], ["alice", "bob", "carol"]);
    let kept = verifier.book.change(&held).unwrap();
    let pin = verifier.book.governing().unwrap().pin();
    let as_of_ms = kept.record().times.effective_at_ms;
    assert!(verify(kept.decision().unwrap(), pin, &pin.deployment, as_of_ms).is_ok());
}
