#![expect(clippy::unwrap_used, reason = "tests")]

use quotary_common::checkpoint::{Checkpoint, origin_of};
use quotary_common::envelope::WitnessedCheckpoint;
use quotary_common::id::{DeploymentId, Digest};
use quotary_common::sign::SigningKey;
use quotary_common::wire::{Base64, NonceReply};

use super::*;
use crate::evidence::{Chain, Contents, build};

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
