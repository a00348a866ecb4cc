//! The decision that travels: all that an agent checks, and in which order.

use proptest::prelude::*;

use super::fixture::{
    HOUR_MS, MINUTE_MS, PEOPLE, Signer, World, decided, deployment, roster_of, roster_text, rules_with, t0,
};
use crate::cbor::{BoundedBytes, Version};
use crate::id::{DeploymentId, Digest};
use crate::limits::{DECISION_BYTES_MAX, DECISION_VOTES_MAX, SSH_SIGNATURE_BYTES_MAX};
use crate::quorum::authority::Authority;
use crate::quorum::change::ChangeText;
use crate::quorum::decide::{Case, Moment, decide};
use crate::quorum::decision::{DecisionFault, QuorumDecision, verify};
use crate::quorum::roster::Roster;
use crate::quorum::vote::{Ballot, Cast, SignatureCache, Verb, Vote};

pub(super) fn pinned(world: &World) -> Authority {
    let (roster, rules) = (world.roster.digest(), world.rules.digest());
    Authority { version: Version, deployment: deployment(), number: 1, roster, rules }
}

pub(super) fn signed(text: &ChangeText, people: &[&str]) -> Vec<Vote> {
    people.iter().map(|person| Signer::of(person).vote(person, Verb::Approval, text, t0() + MINUTE_MS)).collect()
}

/// A decision approved ten minutes after the proposal.
pub(super) fn sent(world: &World, text: &ChangeText, people: &[&str]) -> QuorumDecision {
    let under = (world.under(), world.under());
    QuorumDecision::new(text, signed(text, people), under, t0() + 10 * MINUTE_MS).unwrap()
}

const NOW: u64 = 30 * MINUTE_MS;

#[test]
fn an_agent_takes_a_decision_that_the_pinned_roster_and_rules_approve() {
    let world = World::new();
    let text = world.text(|_| ());
    let bytes = sent(&world, &text, &["bob", "carol"]).to_bytes();
    let verified = verify(&bytes, &pinned(&world), &deployment(), t0() + NOW).unwrap();
    assert_eq!((verified.text(), verified.approved_at_ms()), (&text, t0() + 10 * MINUTE_MS));
    assert_eq!(verified.outcome().votes.len(), 2);
    assert!(bytes.len() < DECISION_BYTES_MAX);
}

#[test]
fn a_compromised_verifier_cannot_make_up_a_decision() {
    let world = World::new();
    let text = world.text(|_| ());
    let good = sent(&world, &text, &["bob", "carol"]);
    let refused = |decision: &QuorumDecision, pin: &Authority| {
        verify(&decision.to_bytes(), pin, &deployment(), t0() + NOW).unwrap_err()
    };
    let pin = pinned(&world);

    // Its own roster, in which it holds all keys.
    let own = World {
        roster: roster_of(9, &[("eve", &["operator", "security"]), ("mallory", &["operator"])]),
        ..World::new()
    };
    let own_text = own.text(|_| ());
    assert!(matches!(refused(&sent(&own, &own_text, &["eve", "mallory"]), &pin), DecisionFault::NotPinned("roster")));
    // Its own rules, that ask for nobody of security.
    let lax = World { rules: rules_with("approvals = 2\nroles = { security = 1 }", "approvals = 1"), ..World::new() };
    let lax_text = lax.text(|_| ());
    assert!(matches!(refused(&sent(&lax, &lax_text, &["bob"]), &pin), DecisionFault::NotPinned("quorum rules")));
    // The signed change with another document.
    let other = world.text(|change| change.document = "policy = 'db'\n".to_owned());
    let swapped = QuorumDecision { text: BoundedBytes::new(other.bytes().to_vec()).unwrap(), ..good.clone() };
    assert!(matches!(refused(&swapped, &pin), DecisionFault::Vote { .. }));
    // Votes left out, or the same one twice.
    assert!(matches!(refused(&sent(&world, &text, &["bob"]), &pin), DecisionFault::NotApproved(_)));
    assert!(matches!(refused(&sent(&world, &text, &["carol", "carol"]), &pin), DecisionFault::NotApproved(_)));
    // Who asked, approving.
    assert!(matches!(refused(&sent(&world, &text, &["alice", "carol"]), &pin), DecisionFault::NotApproved(_)));
    // A text whose clocks are over, said to be approved in time.
    let late = verify(&good.to_bytes(), &pin, &deployment(), text.change().apply_by_ms + 1);
    assert!(matches!(late, Err(DecisionFault::NotApproved(_))));
    for approved_at_ms in [t0() - 1, text.change().approve_by_ms + 1] {
        let other = QuorumDecision { approved_at_ms, ..good.clone() };
        assert!(verify(&other.to_bytes(), &pin, &deployment(), t0() + NOW).is_err());
    }
    // A decision of another deployment.
    let elsewhere = verify(&good.to_bytes(), &pin, &DeploymentId::of(&[b"x"]), t0() + NOW);
    assert!(matches!(elsewhere, Err(DecisionFault::Deployment)));
}

#[test]
fn the_documents_at_creation_travel_where_they_are_others() {
    let then = World::new();
    let text = then.text(|_| ());
    let now = World {
        roster: roster_of(4, &PEOPLE[..5]),
        rules: rules_with("approvals = 2\nroles = { security = 1 }", "approvals = 1"),
    };
    let with = |people: &[&str]| {
        let under = (now.under(), then.under());
        QuorumDecision::new(&text, signed(&text, people), under, t0() + 10 * MINUTE_MS).unwrap()
    };
    let pin = pinned(&now);
    let verified = |decision: &QuorumDecision| verify(&decision.to_bytes(), &pin, &deployment(), t0() + NOW);
    let good = with(&["bob", "carol"]);
    assert!(good.roster_at_creation.is_some() && good.rules_at_creation.is_some());
    assert!(verified(&good).is_ok());
    // The laxer rules of today do not lower the bar.
    assert!(matches!(verified(&with(&["bob"])), Err(DecisionFault::NotApproved(_))));
    let without = QuorumDecision { rules_at_creation: None, ..good };
    assert!(matches!(verified(&without), Err(DecisionFault::Case(_))));
}

#[test]
fn the_votes_that_let_a_change_pass_travel_and_no_others() {
    let world = World::new();
    let (before, text) = (world.text(|change| change.nonce = [1; 16]), world.text(|_| ()));
    let mut ballot = Ballot::default();
    for (person, verb, text) in [
        ("erin", Verb::Approval, &before),
        ("bob", Verb::Approval, &text),
        ("carol", Verb::Approval, &text),
        ("frank", Verb::Rejection, &text),
        ("dave", Verb::Approval, &text),
        ("dave", Verb::Withdrawal, &text),
        ("alice", Verb::Approval, &text),
    ] {
        ballot.cast(Signer::of(person).vote(person, verb, text, t0() + MINUTE_MS));
    }
    let (votes, _) = ballot.checked(&text, &[&world.roster], &mut SignatureCache::default());
    let outcome = decided(&world, &text, &votes);
    let counted = ballot.counted(&text, &outcome);
    let people: Vec<&str> = counted.iter().map(|vote| vote.person.as_str()).collect();
    assert_eq!(people, ["bob", "carol"]);
    let under = (world.under(), world.under());
    let bytes = QuorumDecision::new(&text, counted, under, t0() + 10 * MINUTE_MS).unwrap().to_bytes();
    assert!(verify(&bytes, &pinned(&world), &deployment(), t0() + NOW).is_ok());
}

#[test]
fn a_vote_by_a_key_that_left_the_roster_does_not_travel_with_the_one_that_counts() {
    // Bob has another key since; carol has signed with both of hers.
    let roster = |bob: &[&str]| {
        let people = roster_text(2, &[("alice", &["operator"]), ("dave", &["operator"])]);
        let with = |name: &str, roles: &str, keys: &[&str]| {
            let keys: String =
                keys.iter().map(|key| format!("[[people.keys]]\nkey = '{}'\n", Signer::of(key).line())).collect();
            format!("[[people]]\nname = '{name}'\nroles = {roles}\n{keys}")
        };
        let bob = with("bob", "['operator']", bob);
        let carol = with("carol", "['operator', 'security']", &["carol", "carol's other"]);
        Roster::parse(format!("{people}{bob}{carol}").as_bytes()).unwrap()
    };
    let then = World { roster: roster(&["bob"]), ..World::new() };
    let now = World { roster: roster(&["bob's new"]), ..World::new() };
    let text = then.text(|_| ());
    let mut ballot = Ballot::default();
    for (key, person, second) in
        [("bob", "bob", 0), ("carol", "carol", 1), ("carol's other", "carol", 2), ("bob's new", "bob", 3)]
    {
        let at_ms = t0() + MINUTE_MS + second * 1_000;
        assert_eq!(ballot.cast(Signer::of(key).vote(person, Verb::Approval, &text, at_ms)), Cast::Kept);
    }
    let rosters = [&now.roster, &then.roster];
    let (votes, failed) = ballot.checked(&text, &rosters, &mut SignatureCache::default());
    assert_eq!((votes.len(), failed.len()), (4, 0));
    let under = (now.under(), then.under());
    let case = Case::new(&text, &votes, under, None, (Moment::Approval, t0() + 10 * MINUTE_MS)).unwrap();
    let outcome = decide(&case);
    assert!(outcome.is_approved(), "{:?}", outcome.explain());
    let counted = ballot.counted(&text, &outcome);
    let keys: Vec<_> = counted.iter().map(|vote| vote.key).collect();
    let key = |place: usize| ballot.votes()[place].key;
    assert_eq!(keys, [key(1), key(3)]);
    let bytes = QuorumDecision::new(&text, counted, under, t0() + 10 * MINUTE_MS).unwrap().to_bytes();
    verify(&bytes, &pinned(&now), &deployment(), t0() + NOW).unwrap();
}

#[test]
fn a_decision_that_would_be_too_large_to_travel_is_none() {
    let padded = |version: u64| {
        let text = format!("{}# {}\n", roster_text(version, &PEOPLE), "x".repeat(40 * 1024));
        World { roster: Roster::parse(text.as_bytes()).unwrap(), ..World::new() }
    };
    let (then, now) = (padded(3), padded(4));
    let text = then.text(|change| change.document = format!("# {}\n", "x\n# ".repeat(10 * 1024)));
    let vote = signed(&text, &["bob"]).remove(0);
    let signature = || BoundedBytes::new(vec![7; SSH_SIGNATURE_BYTES_MAX]).unwrap();
    let of = |count: usize| {
        let votes = (0..count).map(|_| Vote { signature: signature(), ..vote.clone() }).collect();
        QuorumDecision::new(&text, votes, (now.under(), then.under()), t0())
    };
    assert!(of(DECISION_VOTES_MAX).is_none() && of(1).is_some());
    let most = (0..DECISION_VOTES_MAX).rev().find_map(of).unwrap();
    assert!(most.to_bytes().len() <= DECISION_BYTES_MAX && most.votes.len() > DECISION_VOTES_MAX / 2);
}

#[test]
fn a_decision_that_is_too_large_is_refused_before_it_is_read() {
    let world = World::new();
    let large = vec![0; DECISION_BYTES_MAX + 1];
    assert!(matches!(
        verify(&large, &pinned(&world), &deployment(), t0()),
        Err(DecisionFault::Form(crate::cbor::CborError::TooLarge { .. }))
    ));
}

/// A form that ships never changes: another one gets another version.
#[test]
fn the_form_of_a_decision_is_fixed() {
    let world = World::new();
    let text = world.text(|_| ());
    let bytes = sent(&world, &text, &["bob", "carol"]).to_bytes();
    assert_eq!(&bytes[..4], [0xa6, 0, 1, 1]);
    assert_eq!(Digest::of(&[&bytes]).hex(), "2434fc4e502fe88a835cbb5629a48493d51ee48d90ab2c8313accd81fcca6edf");
    let vote = crate::cbor::to_bytes(&signed(&text, &["bob"])[0]);
    assert_eq!(Digest::of(&[&vote]).hex(), "f4e92d89ba67ec50bbd32a92fb249ff00bc239af8a6b49c5db69dfe23f4f618f");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn one_flipped_bit_of_a_decision_is_never_taken_for_another_approval(at in any::<prop::sample::Index>(), bit in 0u32..8) {
        let world = World::new();
        let text = world.text(|_| ());
        let mut bytes = sent(&world, &text, &["bob", "carol"]).to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // Nobody signed when the verifier took a vote or the whole for approved: that alone may differ.
        if let Ok(verified) = verify(&bytes, &pinned(&world), &deployment(), t0() + HOUR_MS / 2) {
            prop_assert_eq!(verified.text(), &text);
        }
    }

    #[test]
    fn no_bytes_make_the_check_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let world = World::new();
        prop_assert!(verify(&bytes, &pinned(&world), &deployment(), t0()).is_err());
    }
}
