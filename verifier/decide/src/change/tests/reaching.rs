//! Which hosts are told of what is in force.

use quotary_common::id::{Digest, HostId};
use quotary_common::quorum::change::Way;
use quotary_common::quorum::decision::verify;
use quotary_common::quorum::vote::Verb;
use quotary_common::wire::ChangeSubject;

use super::fixture::{GIB, PEOPLE, Verifier, policy, revoke};
use crate::policy::life::{Input, State};

/// The host of the fixture, and one of which it knows nothing.
const OWN: HostId = HostId::new([2; 32]);
const OTHER: HostId = HostId::new([9; 32]);

fn told(verifier: &Verifier, host: &HostId) -> Vec<Digest> {
    verifier.book.in_force_for(host, verifier.now_ms)
}

#[test]
fn what_is_in_force_is_told_with_its_decision_and_what_only_moves_is_not() {
    let mut verifier = Verifier::new();
    assert_eq!((verifier.book.in_force_name(&OWN), told(&verifier, &OWN)), (None, Vec::new()));
    let moving = verifier.moving(&policy(1, 2 * GIB), 15);
    assert_eq!((verifier.book.in_force_name(&OWN), told(&verifier, &OWN)), (None, Vec::new()));
    verifier.later(15);
    assert_eq!(verifier.state(moving), State::InForce);
    let first = verifier.book.change(&moving).unwrap().text().digest();
    let name = verifier.book.in_force_name(&OWN);
    assert_eq!((told(&verifier, &OWN), name.is_some()), (vec![first], true));
    let decision = verifier.book.in_force_by(&OWN, &first).unwrap();
    let pin = verifier.book.governing().unwrap().pin();
    let verified = verify(decision, pin, &pin.deployment, verifier.now_ms).unwrap();
    assert_eq!(verified.text().digest(), first);
    assert!(verifier.book.in_force_by(&OWN, &Digest::of(&[b"other"])).is_none());
    assert_eq!(
        (told(&verifier, &OTHER), verifier.book.in_force_name(&OTHER)),
        (vec![first], name),
        "it may run anywhere"
    );

    let second = verifier.in_force(&policy(2, GIB));
    let second = verifier.book.change(&second).unwrap().text().digest();
    assert_eq!(told(&verifier, &OWN), [second]);
    assert_ne!(verifier.book.in_force_name(&OWN), name);
    assert!(verifier.book.in_force_by(&OWN, &first).is_none(), "what was replaced is shown no more");
}

#[test]
fn what_is_for_one_host_is_told_to_that_one_alone() {
    let mut verifier = Verifier::new();
    let everywhere = verifier.in_force(&policy(1, 2 * GIB));
    let narrow = ChangeSubject::Policy(format!(
        "name = 'web-here'\nversion = 1\ncriticality = 'high'\n[select]\napplication = 'web'\nhost = '{OWN}'\n[limit]\nmemory_bytes = {GIB}\n",
    ));
    let narrow = verifier.in_force(&narrow);
    let text = |id| verifier.book.change(&id).unwrap().text().digest();
    let (wide, narrow) = (text(everywhere), text(narrow));
    let both: std::collections::BTreeSet<Digest> = told(&verifier, &OWN).into_iter().collect();
    assert_eq!((both, told(&verifier, &OTHER)), ([wide, narrow].into(), vec![wide]));
    let names = [OWN, OTHER].map(|host| verifier.book.in_force_name(&host));
    assert!(names[0].is_some() && names[1].is_some() && names[0] != names[1]);
    assert!(verifier.book.in_force_by(&OWN, &narrow).is_some() && verifier.book.in_force_by(&OTHER, &narrow).is_none());
}

#[test]
fn a_revocation_is_told_until_its_apply_by_time_and_another_policy_of_the_name_takes_its_place() {
    let mut verifier = Verifier::new();
    let _policy = verifier.in_force(&policy(1, 2 * GIB));
    let revoked = verifier.in_force(&revoke());
    let (text, apply_by_ms) = {
        let kept = verifier.book.change(&revoked).unwrap();
        (kept.text().digest(), kept.record().times.apply_by_ms)
    };
    assert_eq!(told(&verifier, &OWN), [text]);
    assert_eq!(verifier.book.in_force_for(&OWN, apply_by_ms), [text]);
    assert!(verifier.book.in_force_for(&OWN, apply_by_ms + 1).is_empty(), "nobody could take it any more");
    let again = verifier.in_force(&policy(3, GIB));
    assert_eq!(told(&verifier, &OWN), [verifier.book.change(&again).unwrap().text().digest()]);
}

#[test]
fn an_emergency_is_told_while_it_lasts_and_then_what_it_stood_before() {
    let mut verifier = Verifier::new();
    let policy_id = verifier.in_force(&policy(1, 2 * GIB));
    let text = |verifier: &Verifier, id| verifier.book.change(&id).unwrap().text().digest();
    let emergency = verifier.propose_by("alice", &policy(2, GIB), Way::BreakGlass, None).unwrap();
    for (person, _) in PEOPLE.iter().filter(|(_, role)| *role == "on-call") {
        verifier.vote(emergency, person, Verb::BreakGlass).unwrap();
    }
    verifier.told(emergency, Input::Planned).unwrap();
    verifier.later(0);
    assert_eq!(told(&verifier, &OWN), [text(&verifier, emergency)]);
    verifier.later(30);
    assert_eq!(told(&verifier, &OWN), [text(&verifier, policy_id)]);
}
