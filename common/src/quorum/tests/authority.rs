//! The pin: set by the root, moved on by decisions of those whom it names.

use ring::rand::SystemRandom;

use super::decision::{pinned, sent};
use super::fixture::{HOUR_MS, MINUTE_MS, PEOPLE, RULES, World, deployment, roster_text, t0};
use crate::id::{DeploymentId, Digest};
use crate::quorum::authority::{Authority, AuthorityFault};
use crate::quorum::change::Kind;
use crate::quorum::decision::DecisionFault;
use crate::quorum::roster::Roster;
use crate::sign::SigningKey;

fn root() -> SigningKey {
    let document = ring::signature::Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    SigningKey::from_pkcs8(document.as_ref()).unwrap()
}

#[test]
fn genesis_is_what_the_root_signed_for_this_deployment() {
    let (root, world) = (root(), World::new());
    let signed = root.sign(&pinned(&world));
    assert_eq!(Authority::genesis(&signed, &root.public(), &deployment()).unwrap(), pinned(&world));
    let other = Authority::genesis(&signed, &self::root().public(), &deployment());
    assert!(matches!(other, Err(AuthorityFault::Root(_))));
    let elsewhere = Authority::genesis(&signed, &root.public(), &DeploymentId::of(&[b"x"]));
    assert!(matches!(elsewhere, Err(AuthorityFault::Deployment)));
}

#[test]
fn a_link_moves_the_pin_when_old_and_new_approve_and_its_time_has_come() {
    let world = World::new();
    let pin = pinned(&world);
    let next = roster_text(4, &PEOPLE[..5]);
    let text = world.authority_text(Kind::Roster, next.as_bytes());
    let link = sent(&world, &text, &["bob", "carol", "dave"]).to_bytes();
    let effective_ms = text.change().effective_ms;
    assert!(matches!(pin.advance(&link, effective_ms - 1), Err(AuthorityFault::NotYet(_))));
    // A host that was away for a year walks its links late.
    let moved = pin.advance(&link, effective_ms + 365 * 24 * HOUR_MS).unwrap();
    assert_eq!((moved.number, moved.roster, moved.rules), (2, Digest::of(&[next.as_bytes()]), pin.rules));
    // A link leads from one pin only: not twice, and not from another one.
    assert!(matches!(moved.advance(&link, effective_ms), Err(AuthorityFault::Decision(DecisionFault::NotPinned(_)))));
    let few = sent(&world, &text, &["bob", "carol"]).to_bytes();
    assert!(matches!(pin.advance(&few, effective_ms), Err(AuthorityFault::Decision(DecisionFault::NotApproved(_)))));
}

#[test]
fn a_chain_of_roster_and_rules_is_walked_link_by_link() {
    let world = World::new();
    let next = roster_text(4, &PEOPLE[..6]);
    let text = world.authority_text(Kind::Roster, next.as_bytes());
    let first = sent(&world, &text, &["bob", "carol", "dave"]).to_bytes();
    let world = World { roster: Roster::parse(next.as_bytes()).unwrap(), ..world };
    let rules = RULES.replace("version = 2", "version = 3").replace("approvals = 3", "approvals = 4");
    let text = world.authority_text(Kind::Rules, rules.as_bytes());
    let second = sent(&world, &text, &["bob", "carol", "dave", "erin"]).to_bytes();
    let pin = pinned(&World::new());
    let later_ms = t0() + 9 * HOUR_MS;
    assert!(pin.advance(&second, later_ms).is_err(), "a link left out");
    let last = pin.advance(&first, later_ms).and_then(|pin| pin.advance(&second, later_ms)).unwrap();
    assert_eq!((last.number, last.rules), (3, Digest::of(&[rules.as_bytes()])));
}

#[test]
fn a_decision_over_a_policy_moves_no_pin_and_one_from_the_future_neither() {
    let world = World::new();
    let policy = sent(&world, &world.text(|_| ()), &["bob", "carol"]).to_bytes();
    assert!(matches!(pinned(&world).advance(&policy, t0() + HOUR_MS), Err(AuthorityFault::Kind)));
    let text = world.authority_text(Kind::Roster, roster_text(4, &PEOPLE[..5]).as_bytes());
    let link = sent(&world, &text, &["bob", "carol", "dave"]).to_bytes();
    assert!(matches!(pinned(&world).advance(&link, t0() + 9 * MINUTE_MS), Err(AuthorityFault::Future)));
}
