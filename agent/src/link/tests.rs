#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::cbor::{Bounded, Text, Version};
use quotary_common::checkpoint::{Checkpoint, origin_of};
use quotary_common::envelope::{Name, WitnessedCheckpoint};
use quotary_common::grant::{GrantSet, GrantSetVersion};
use quotary_common::id::{DeploymentId, Digest, PlanId};
use quotary_common::keys::{KeyCertificate, deployment_of};
use quotary_common::plan::{Course, OnPressure, Plan, Setpoint, ShapedControl, Target, digest_of};
use quotary_common::reason::Reason;
use quotary_common::sign::SigningKey;
use quotary_common::wire::{Base64, EvidenceReply, NonceReply};

use super::exchange::check;
use super::*;
use crate::evidence::{Chain, Contents, build};
use crate::identity::{Identity, IdentityRecord};

fn key() -> SigningKey {
    let document = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    SigningKey::from_pkcs8(document.as_ref()).unwrap()
}

fn nonce(next_sequence: u64, predecessor: Digest) -> NonceReply {
    NonceReply {
        nonce: Base64(vec![0; 32]),
        pcr_selection: vec![],
        next_sequence,
        predecessor,
        checkpoint: String::new(),
        consistency: vec![],
        logs: quotary_common::wire::LogsWanted::default(),
    }
}

#[test]
fn the_verifier_waits_has_committed_lost_or_follows_another_chain() {
    let frame = crate::evidence::testing::frame();
    let chain = Chain::begin(frame.deployment, frame.host, 0);
    let (pending, _) = build(frame, chain.next_place(), Contents::default()).unwrap();
    let zeros = Digest::new([0; 32]);
    assert_eq!(position(&nonce(1, zeros), &pending), Position::Waiting);
    assert_eq!(position(&nonce(2, pending.digest()), &pending), Position::Committed);
    assert_eq!(position(&nonce(0, zeros), &pending), Position::Behind);
    assert_eq!(position(&nonce(2, Digest::of(&[b"clone"])), &pending), Position::Elsewhere);
    assert_eq!(position(&nonce(1, Digest::of(&[b"clone"])), &pending), Position::Elsewhere);
    assert_eq!(position(&nonce(7, Digest::of(&[b"clone"])), &pending), Position::Elsewhere);
}

struct Log {
    key: SigningKey,
    deployment: DeploymentId,
    leaves: [Digest; 2],
}

impl Log {
    fn new() -> Self {
        let leaves = [Digest::of(&[&[0], b"a"]), Digest::of(&[&[0], b"b"])];
        Self { key: key(), deployment: DeploymentId::of(&[b"d"]), leaves }
    }
    fn at(&self, size: u64) -> WitnessedCheckpoint {
        let [a, b] = &self.leaves;
        let root = if size == 1 { *a } else { Digest::of(&[&[1], a.as_bytes(), b.as_bytes()]) };
        WitnessedCheckpoint { size, root }
    }
    fn reply(&self, at: WitnessedCheckpoint, consistency: Vec<Digest>) -> NonceReply {
        let note = Checkpoint { origin: origin_of(&self.deployment), size: at.size, root: at.root }.sign(&self.key);
        NonceReply { checkpoint: note, consistency, ..nonce(1, Digest::new([0; 32])) }
    }
    fn see(
        &self,
        reply: &NonceReply,
        base: Option<WitnessedCheckpoint>,
        seen: Option<WitnessedCheckpoint>,
    ) -> Result<WitnessedCheckpoint, LogAlarm> {
        witness(reply, &self.deployment, &self.key.public(), base, seen)
    }
}

#[test]
fn a_checkpoint_that_follows_is_witnessed() {
    let log = Log::new();
    let [_, b] = log.leaves;
    assert_eq!(log.see(&log.reply(log.at(1), vec![]), None, None), Ok(log.at(1)));
    assert_eq!(log.see(&log.reply(log.at(2), vec![b]), Some(log.at(1)), Some(log.at(1))), Ok(log.at(2)));
    assert_eq!(log.see(&log.reply(log.at(1), vec![]), Some(log.at(1)), Some(log.at(2))), Ok(log.at(2)), "not back");
}

#[test]
fn a_fork_a_rewound_log_and_a_foreign_signature_are_alarms() {
    let log = Log::new();
    let [_, b] = log.leaves;
    let forked = WitnessedCheckpoint { size: 2, root: Digest::of(&[b"fork"]) };
    let is_fork = |outcome| matches!(outcome, Err(LogAlarm::Fork { .. }));
    assert!(is_fork(log.see(&log.reply(forked, vec![b]), Some(log.at(1)), None)));
    assert!(is_fork(log.see(&log.reply(log.at(2), vec![]), Some(log.at(1)), None)), "without a proof");
    assert!(is_fork(log.see(&log.reply(log.at(1), vec![]), Some(log.at(2)), None)), "rewound");
    assert!(is_fork(log.see(&log.reply(forked, vec![]), None, Some(log.at(2)))), "same size, other root");
    let other = Log { key: key(), ..Log::new() };
    assert!(matches!(log.see(&other.reply(log.at(1), vec![]), None, None), Err(LogAlarm::Note(_))));
}

/// A deployment's keys, the identity that trusts them, and a chain with its first envelope on its way.
struct World {
    grant_key: SigningKey,
    log_key: SigningKey,
    identity: Identity,
    chain: Chain,
}

impl World {
    fn new() -> Self {
        let (root, grant_key, log_key) = (key(), key(), key());
        let deployment = deployment_of(&root.public());
        let frame = crate::evidence::Frame { deployment, checkpoint: None, ..crate::evidence::testing::frame() };
        let certificate = KeyCertificate {
            version: Version,
            deployment,
            verifier: Name::lossy("v"),
            grant_key: grant_key.public(),
            log_key: log_key.public(),
            result_key: key().public(),
            not_after_ms: 100,
        };
        let record = IdentityRecord {
            version: Version,
            deployment,
            host: frame.host,
            root: root.public(),
            keys: root.sign(&certificate),
            verifier: Text::lossy("https://v"),
            ca_spki: Digest::of(&[b"ca"]),
            window_ms: 1,
            evidence_ms: 1,
            lease_ms: 1,
            ak_name: vec![],
        };
        let identity = Identity::check(record, 50).unwrap();
        let mut chain = Chain::begin(deployment, frame.host, 3);
        let (envelope, _) = build(frame, chain.next_place(), Contents::default()).unwrap();
        chain.propose(envelope).unwrap();
        Self { grant_key, log_key, identity, chain }
    }

    fn set(&self) -> GrantSet {
        let pending = self.chain.pending().unwrap();
        GrantSet {
            version: quotary_common::grant::GrantSetVersion::GrantsAlone,
            plans: None,
            deployment: self.identity.deployment(),
            host: self.identity.host(),
            boot_id: pending.claims().boot_id,
            sequence: 1,
            evidence: Digest::new([9; 32]),
            envelope: pending.digest(),
            epoch: 3,
            generation: 1,
            lease_ms: 1_000,
            grants: Bounded::default(),
            refusals: Bounded::default(),
        }
    }

    fn reply(&self, set: &GrantSet, signed_by: &SigningKey, log_key: &SigningKey) -> EvidenceReply {
        let origin = origin_of(&self.identity.deployment());
        let note = Checkpoint { origin, size: 1, root: Digest::of(&[b"r"]) }.sign(log_key);
        EvidenceReply {
            evidence: Digest::of(&[b"e"]),
            zone: "z".to_owned(),
            findings: vec![],
            valid_until_ms: 0,
            grant_set: Base64(signed_by.sign(set).to_bytes()),
            plans: vec![],
            authority: None,
            quorum_decisions: None,
            next: NonceReply { checkpoint: note, ..nonce(2, Digest::of(&[b"e"])) },
        }
    }

    /// A signed plan for this host.
    fn plan(&self, id: u8) -> Vec<u8> {
        let setpoints = Bounded::new(vec![Setpoint { at_ms: 9, value: 50 }]).unwrap();
        let plan = Plan {
            version: Version,
            deployment: self.identity.deployment(),
            host: self.identity.host(),
            id: PlanId::new([id; 32]),
            epoch: 3,
            target: Target::Unit(Name::lossy("web.service")),
            generation: u64::from(id),
            starts_at_ms: 1,
            effective_at_ms: 9,
            ends_at_ms: None,
            not_after_ms: 9,
            courses: Bounded::new(vec![Course { control: ShapedControl::CpuWeight, setpoints }]).unwrap(),
            on_pressure: OnPressure::Hold,
            hold_ms_max: 0,
            overrides: false,
            decision: None,
        };
        self.grant_key.sign(&plan).to_bytes()
    }

    fn tried(&self, reply: &EvidenceReply) -> LinkError {
        check(&self.identity, &self.chain, reply, 50).unwrap_err()
    }
}

#[test]
fn only_a_grant_set_of_the_certified_key_for_the_envelope_on_its_way_holds() {
    let world = World::new();
    let good = world.reply(&world.set(), &world.grant_key, &world.log_key);
    let super::exchange::Checked { grants, checkpoint, .. } = check(&world.identity, &world.chain, &good, 50).unwrap();
    assert_eq!((grants.set().generation, checkpoint.size), (1, 1));
    assert_eq!(grants.lease().start_ms, world.chain.pending().unwrap().claims().built_at_ms);

    for (what, set) in [
        ("another envelope", GrantSet { envelope: Digest::of(&[b"x"]), ..world.set() }),
        ("another host", GrantSet { host: quotary_common::id::HostId::of(&[b"x"]), ..world.set() }),
        ("another deployment", GrantSet { deployment: DeploymentId::of(&[b"x"]), ..world.set() }),
        ("another boot", GrantSet { boot_id: quotary_common::id::BootId::new([9; 16]), ..world.set() }),
    ] {
        let error = world.tried(&world.reply(&set, &world.grant_key, &world.log_key));
        assert_eq!(error.refusal().map(|refusal| refusal.reason), Some(Reason::GrantSignature), "{what}");
        assert!(error.is_alarm(), "{what}");
    }
    let older = GrantSet { epoch: 2, ..world.set() };
    let error = world.tried(&world.reply(&older, &world.grant_key, &world.log_key));
    assert_eq!(error.refusal().map(|refusal| refusal.reason), Some(Reason::Epoch));

    let forged = world.reply(&world.set(), &key(), &world.log_key);
    let error = world.tried(&forged);
    assert_eq!(error.refusal().map(|refusal| refusal.reason), Some(Reason::GrantSignature));
    assert_eq!(error.reaction(), Reaction::Later, "the true one is asked for again");
    let mut cut = good.clone();
    cut.grant_set.0.pop();
    assert_eq!(world.tried(&cut).refusal().map(|refusal| refusal.reason), Some(Reason::GrantSignature));
}

#[test]
fn a_reply_with_a_foreign_log_or_after_the_keys_end_gives_nothing() {
    let world = World::new();
    let foreign = world.reply(&world.set(), &world.grant_key, &key());
    let error = world.tried(&foreign);
    assert!(matches!(error, LinkError::Log(_)) && error.is_alarm());
    let good = world.reply(&world.set(), &world.grant_key, &world.log_key);
    assert!(matches!(check(&world.identity, &world.chain, &good, 101), Err(LinkError::Keys(_))));
}

#[test]
fn plans_that_somebody_dropped_brought_back_or_made_are_refused_with_the_whole_reply() {
    let world = World::new();
    let (one, two, cancelled) = (world.plan(1), world.plan(2), world.plan(3));
    let named = digest_of(&[&one, &two]);
    let set = GrantSet { version: GrantSetVersion::naming(named.as_ref()), plans: named, ..world.set() };
    let reply = |set: &GrantSet, plans: &[&Vec<u8>]| EvidenceReply {
        plans: plans.iter().map(|plan| Base64((*plan).clone())).collect(),
        ..world.reply(set, &world.grant_key, &world.log_key)
    };
    let good = check(&world.identity, &world.chain, &reply(&set, &[&one, &two]), 50).unwrap();
    let ids: Vec<_> = good.plans.iter().map(|plan| plan.checked().plan().id).collect();
    assert_eq!(ids, [PlanId::new([1; 32]), PlanId::new([2; 32])]);
    let forged = {
        let other = World { grant_key: key(), ..World::new() };
        other.plan(2)
    };
    for (what, plans) in [
        ("all dropped", vec![]),
        ("one dropped", vec![&one]),
        ("one brought back", vec![&one, &two, &cancelled]),
        ("one in place of another", vec![&one, &cancelled]),
        ("another order", vec![&two, &one]),
        ("one twice", vec![&one, &two, &two]),
        ("one of another key", vec![&one, &forged]),
    ] {
        let error = world.tried(&reply(&set, &plans));
        assert_eq!(error.refusal().map(|refusal| refusal.reason), Some(Reason::GrantSignature), "{what}");
        assert!(error.is_alarm(), "{what}");
        assert_eq!(error.reaction(), Reaction::Later, "{what}: the true ones are asked for again");
    }
    // A set that names none takes none.
    let error = world.tried(&reply(&world.set(), &[&one]));
    assert_eq!(error.refusal().map(|refusal| refusal.reason), Some(Reason::GrantSignature));
}
