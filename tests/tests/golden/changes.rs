//! What changes leave in the log, and what the deployment's root signs.

use quotary_common::cbor::{Text, Version, from_bytes};
use quotary_common::id::{ChangeId, DeploymentId, Digest};
use quotary_common::leaf::{AuthoritySet, ChangeMoved, Decision, Genesis, Leaf, PolicyWatched, VoteCast};
use quotary_common::quorum::authority::Authority;
use quotary_common::quorum::vote::Verb;
use quotary_common::sign::PublicKey;

use super::file::golden;
use super::{key, name};

fn authority() -> Authority {
    Authority {
        version: Version,
        deployment: DeploymentId::new([1; 32]),
        number: 0,
        roster: Digest::new([35; 32]),
        rules: Digest::new([36; 32]),
    }
}

#[test]
fn leaves_v1_of_changes() {
    let set = AuthoritySet { authority: authority(), input: Digest::new([37; 32]) };
    let moved = ChangeMoved {
        change: ChangeId::new([38; 32]),
        what: Text::new("alter policy").unwrap(),
        name: name("web-memory"),
        state: Text::new("rejected").unwrap(),
        text: Digest::new([39; 32]),
        why: Some(Text::new("rejected by 1 person").unwrap()),
    };
    let cast = VoteCast {
        change: ChangeId::new([38; 32]),
        person: Text::new("alice").unwrap(),
        verb: Verb::Approval,
        key: Digest::new([40; 32]),
        text: Digest::new([39; 32]),
        input: Digest::new([41; 32]),
    };
    let genesis =
        Genesis { root: PublicKey([22; 32]), configuration: Digest::new([25; 32]), authority: Some(set.clone()) };
    let watched = PolicyWatched {
        policy: name("web-memory"),
        version: 3,
        what: Text::new("review").unwrap(),
        why: Text::new("memory_bytes at 97 % of its limit").unwrap(),
        draft: Some(Digest::new([42; 32])),
    };
    let decisions = [
        ("watched", Decision::PolicyWatched(watched)),
        ("moved", Decision::ChangeMoved(moved)),
        ("vote", Decision::VoteCast(cast)),
        ("authority", Decision::AuthoritySet(set)),
        ("genesis", Decision::Genesis(genesis)),
    ];
    for (what, decision) in decisions {
        let leaf = Leaf { version: Version, at_ms: 1_700_000_000_000, actor: Text::new("verifier").unwrap(), decision };
        golden(&format!("leaf-v1-change-{what}.hex"), &leaf.to_bytes());
        assert_eq!(from_bytes::<Leaf>(&leaf.to_bytes(), 65_535).unwrap(), leaf);
    }
}

#[test]
fn authority_v1_signed_by_the_root() {
    golden("authority-v1.hex", &key().sign(&authority()).to_bytes());
}
