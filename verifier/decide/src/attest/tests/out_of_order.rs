//! Evidence that is not the next: repeats, replays, late copies and forks.

use quotary_common::id::Digest;
use quotary_common::reason::Reason;

use super::super::{OutOfOrderEvidence, Prechecked, verify_out_of_order};
use super::scene::Scene;
use super::software_tpm::Pair;

fn out_of_order(scene: &Scene, bytes: &[u8]) -> OutOfOrderEvidence {
    match scene.precheck(bytes).unwrap() {
        Prechecked::OutOfOrder(evidence) => *evidence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_committed_envelope_gets_its_reply_again_whatever_quote_comes_with_it() {
    let mut scene = Scene::new();
    let draft = scene.draft();
    let first = scene.advance();
    let digest = draft.envelope.clone().seal().unwrap().digest();
    // A lost reply: the same bytes; then a fresh nonce and quote over the same envelope.
    let mut requoted = draft;
    requoted.nonce = *scene.nonce().as_bytes();
    requoted.shape.clock_ms += 10;
    for bytes in [first, scene.sign(&requoted).to_bytes()] {
        match scene.precheck(&bytes).unwrap() {
            Prechecked::Repeat(repeat) => assert_eq!((repeat.sequence(), repeat.envelope_digest()), (1, digest)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_not_the_next_says_which_it_is() {
    let mut scene = Scene::new();
    scene.advance();
    let (second, third) = (scene.advance(), scene.advance());
    match scene.precheck(&third).unwrap() {
        Prechecked::Repeat(repeat) => assert_eq!(repeat.sequence(), 3),
        other => panic!("{other:?}"),
    }
    assert_eq!(out_of_order(&scene, &second).sequence(), 2);
}

#[test]
fn a_repeat_over_another_tls_key_is_refused() {
    let mut scene = Scene::new();
    let bytes = scene.advance();
    scene.host.tls_key = Digest::of(&[b"a later key"]);
    assert_eq!(scene.precheck(&bytes).unwrap_err().reason, Reason::TlsKey);
}

#[test]
fn a_replay_of_what_was_committed_is_stale_and_no_fork() {
    let mut scene = Scene::new();
    let first = scene.advance();
    let at_first = scene.host.committed.envelope;
    scene.advance();
    let replayed = out_of_order(&scene, &first);
    assert_eq!(replayed.sequence(), 1);
    assert_eq!(verify_out_of_order(&replayed, &scene.host, Some(at_first)).reason, Reason::SequenceStale);
    assert_eq!(verify_out_of_order(&replayed, &scene.host, None).reason, Reason::SequenceStale);
    assert_eq!(replayed.refuse_unverified().reason, Reason::SequenceStale);
}

#[test]
fn another_envelope_signed_under_a_committed_sequence_is_a_fork() {
    let mut scene = Scene::new();
    // A clone of TPM and agent speaks at the same place of the chain.
    let mut clone = scene.draft();
    clone.envelope.built_at_ms += 1;
    clone.shape.clock_ms += 1;
    let forked = scene.sign(&clone);
    scene.advance();
    let at_first = scene.host.committed.envelope;
    let fork = out_of_order(&scene, &forked.to_bytes());
    assert_eq!(verify_out_of_order(&fork, &scene.host, None).reason, Reason::ChainForked);
    scene.advance();
    assert_eq!(verify_out_of_order(&fork, &scene.host, Some(at_first)).reason, Reason::ChainForked);
    assert_eq!(
        verify_out_of_order(&fork, &scene.host, None).reason,
        Reason::SequenceStale,
        "nothing known of that place"
    );
}

#[test]
fn nothing_but_the_hosts_own_tpm_makes_a_fork() {
    let mut scene = Scene::new();
    let mut clone = scene.draft();
    clone.envelope.built_at_ms += 1;
    scene.advance();
    let mut unsigned = scene.sign(&clone);
    unsigned.signature = Pair::new().sign(&unsigned.attest);
    let mut altered = scene.sign(&scene.draft());
    altered.envelope = clone.envelope.clone().seal().unwrap().bytes().to_vec();
    let mut foreign = clone.clone();
    foreign.shape.qualified_signer = vec![0, 0x0B];
    let mut no_quote = clone.clone();
    no_quote.shape.kind = 0x8017;
    for evidence in [unsigned, altered, scene.sign(&foreign), scene.sign(&no_quote)] {
        let evidence = out_of_order(&scene, &evidence.to_bytes());
        assert_eq!(verify_out_of_order(&evidence, &scene.host, None).reason, Reason::SequenceStale);
    }
    let genuine = out_of_order(&scene, &scene.sign(&clone).to_bytes());
    assert_eq!(verify_out_of_order(&genuine, &scene.host, None).reason, Reason::ChainForked);
}

#[test]
fn a_clone_that_goes_on_after_the_commit_of_the_other_is_a_fork() {
    let mut scene = Scene::new();
    scene.advance();
    // The clone committed nothing of this, but knows the sequence: it builds on its own first envelope.
    let mut draft = scene.draft();
    draft.envelope.predecessor = Digest::of(&[b"the clone's first envelope"]);
    assert_eq!(scene.judge(&scene.sign(&draft).to_bytes()).unwrap_err(), Reason::ChainForked);
}
