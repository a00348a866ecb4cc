//! What the offline audit must find, each made by a verifier, a host or a thief with that purpose.

use proptest::prelude::*;
use quotary_common::checkpoint::{Checkpoint, origin_of};
use quotary_common::envelope::WitnessedCheckpoint;
use quotary_common::evidence::Evidence;
use quotary_common::id::{DeploymentId, Digest, HostId};
use quotary_common::leaf::{Decision, EpochRaised};
use quotary_common::reason::{Reason, Refusal};

use super::log::{Files, Recipe, World, signing_key};
use super::tpm::{Key, pcr_values};
use crate::audit::{AuditReport, CHECKPOINT_PATH, COMMIT_GRACE_MS, evidence_path};

fn assert_fault(report: &AuditReport, leaf: Option<u64>, what: &str) {
    assert!(!report.verified, "{report:#?}");
    let found = report.faults.iter().any(|fault| fault.leaf == leaf && fault.what.contains(what));
    assert!(found, "no fault at {leaf:?} with `{what}`: {:#?}", report.faults);
}

#[test]
fn a_good_log_is_verified_and_complete() {
    let world = World::usual();
    let report = world.files().audit();
    assert_eq!(report.faults, []);
    assert!(report.verified && report.complete);
    assert_eq!((report.size, report.root), (300, Some(world.checkpoint().root)));
    assert_eq!((report.evidence_verified, report.evidence_missing), (4, 0), "each once, however many leaves name it");
    assert_eq!(report.leaves_by_kind["enrolled"], 2);
    assert_eq!(report.leaves_by_kind.values().sum::<u64>(), 300);
    assert_eq!(report.witnesses_agreeing, 1);
    assert!(report.notes.iter().any(|note| note.contains("sha256:0")), "{:?}", report.notes);
    assert!(report.notes.iter().any(|note| note.contains("nonce key is the verifier's secret")));
}

#[test]
fn an_empty_log_is_verified() {
    let mut world = World::new();
    world.leaves.clear();
    let report = world.files().audit();
    assert!(report.verified && report.complete && report.size == 0, "{report:#?}");
}

#[test]
fn a_changed_leaf_is_found_and_named() {
    let world = World::usual();
    let mut files = world.files();
    let leaf = world.leaves[200].to_bytes();
    let bundle = files.0.get_mut("tile/entries/000").unwrap();
    let at = bundle.windows(leaf.len()).position(|window| window == leaf).unwrap();
    bundle[at + leaf.len() - 1] ^= 1;
    let report = files.audit();
    assert_fault(&report, Some(200), "tile/0/000");
    assert_fault(&report, None, "root");
}

#[test]
fn a_leaf_changed_together_with_its_tiles_is_found() {
    let world = World::usual();
    let mut leaves: Vec<Vec<u8>> = world.leaves.iter().map(|leaf| leaf.to_bytes()).collect();
    *leaves[200].last_mut().unwrap() ^= 1;
    let mut files = world.files_of(&leaves);
    files.0.insert(CHECKPOINT_PATH.to_owned(), world.files().0[CHECKPOINT_PATH].clone());
    assert_fault(&files.audit(), None, "root");
}

#[test]
fn swapped_leaves_are_found() {
    let world = World::usual();
    let mut leaves: Vec<Vec<u8>> = world.leaves.iter().map(|leaf| leaf.to_bytes()).collect();
    leaves.swap(210, 211);
    let mut files = world.files_of(&leaves);
    files.0.insert(CHECKPOINT_PATH.to_owned(), world.files().0[CHECKPOINT_PATH].clone());
    assert_fault(&files.audit(), None, "root");
}

#[test]
fn a_truncated_log_is_found() {
    let world = World::usual();
    let mut files = world.files();
    files.0.remove("tile/entries/001.p/44").unwrap();
    let report = files.audit();
    assert_fault(&report, Some(256), "the log is cut short");
    assert_fault(&report, None, "256 of 300 leaves");
    assert!(!report.complete);

    let leaves: Vec<Vec<u8>> = world.leaves.iter().take(290).map(|leaf| leaf.to_bytes()).collect();
    let mut files = world.files_of(&leaves);
    files.0.insert(CHECKPOINT_PATH.to_owned(), world.files().0[CHECKPOINT_PATH].clone());
    assert_fault(&files.audit(), Some(256), "the log is cut short");
}

#[test]
fn a_checkpoint_by_another_key_or_of_another_log_is_refused() {
    let world = World::usual();
    let origin = origin_of(&World::deployment());
    let state = world.checkpoint();
    let mut files = world.files();
    let forged = Checkpoint { origin: origin.clone(), size: state.size, root: state.root }.sign(&signing_key(2));
    files.0.insert(CHECKPOINT_PATH.to_owned(), forged.into_bytes());
    let report = files.audit();
    assert_fault(&report, None, "no signature");
    assert_eq!((report.size, report.root), (0, None));
    files.0.remove(CHECKPOINT_PATH).unwrap();
    assert_fault(&files.audit(), None, "there is no checkpoint");
    files.0.insert(CHECKPOINT_PATH.to_owned(), vec![0xFF; 20]);
    assert_fault(&files.audit(), None, "does not hold");

    let other = origin_of(&DeploymentId::of(&[b"other"]));
    let renamed = Checkpoint { origin: other.clone(), size: state.size, root: state.root }.sign(&signing_key(1));
    files.0.insert(CHECKPOINT_PATH.to_owned(), renamed.into_bytes());
    assert_fault(&files.audit_as(&other, &signing_key(1).public()), Some(0), "not of deployment");
}

#[test]
fn missing_evidence_is_listed_and_the_rest_still_checked() {
    let mut world = World::new();
    (0..5).for_each(|_| world.step(|_| ()));
    let mut files = world.files();
    let pruned = *world.evidence.keys().nth(2).unwrap();
    files.0.remove(&evidence_path(&pruned)).unwrap();
    let report = files.audit();
    assert!(report.verified && !report.complete, "{report:#?}");
    assert_eq!((report.evidence_verified, report.evidence_missing), (4, 1));
    assert_eq!(report.missing[0].evidence, pruned);
}

#[test]
fn changed_or_exchanged_evidence_is_found() {
    let mut world = World::new();
    (0..3).for_each(|_| world.step(|_| ()));
    let paths: Vec<String> = world.evidence.keys().map(evidence_path).collect();
    let mut files = world.files();
    files.0.get_mut(&paths[0]).unwrap()[100] ^= 1;
    let report = files.audit();
    assert!(report.faults.iter().any(|fault| fault.what.contains("SHA-256 differs")), "{report:#?}");
    assert_eq!(report.fault_count, 1, "one fault does not make others: {:#?}", report.faults);
    let mut files = world.files();
    let other = files.0[&paths[1]].clone();
    files.0.insert(paths[0].clone(), other);
    assert!(!files.audit().verified);
}

/// A verifier that logs as accepted what its own rules refuse.
fn audit_of(change: impl FnOnce(&mut Recipe)) -> AuditReport {
    let mut world = World::new();
    world.step(|_| ());
    world.step(change);
    world.step(|_| ());
    let report = world.files().audit();
    assert_eq!(report.evidence_verified + report.fault_count, 3, "{:#?}", report.faults);
    report
}

#[test]
fn evidence_that_should_have_been_refused_is_found() {
    let (stranger, stranger_ek) = (Key::attestation(), Key::endorsement());
    // Leaves: genesis, enrolled, two for the first evidence, then the wrong one.
    let at = Some(4);
    assert_fault(&audit_of(|r| r.ak = stranger.into()), at, "signature");
    assert_fault(&audit_of(|r| r.ek = stranger_ek.into()), at, "qualified-signer");
    let altered = |recipe: &mut Recipe| {
        let mut sent = recipe.envelope.clone();
        sent.facts.memory_bytes += 1;
        recipe.sent = Some(sent);
    };
    assert_fault(&audit_of(altered), at, "extra-data");
    assert_fault(&audit_of(|r| r.pcr_values[3].value[0] ^= 1), at, "pcr-digest");
    assert_fault(&audit_of(|r| r.pcr_values[3].index = 9), at, "pcr-selection");
    assert_fault(&audit_of(|r| r.pcr_values.push(pcr_values()[0].clone())), at, "pcr-selection");
    assert_fault(&audit_of(|r| r.clock_ms = 0), at, "did not increase");
    assert_fault(&audit_of(|r| r.envelope.tls_key = Digest::of(&[b"x"])), at, "another TLS key");
    assert_fault(&audit_of(|r| r.envelope.host = HostId::of(&[b"x"])), at, "speaks for");
    assert_fault(&audit_of(|r| r.envelope.deployment = DeploymentId::of(&[b"x"])), at, "meant for deployment");
    assert_fault(&audit_of(|r| r.envelope.sequence = 7), at, "has sequence 7");
    assert_fault(&audit_of(|r| r.envelope.predecessor = Digest::of(&[b"x"])), at, "follows another");
    assert_fault(&audit_of(|r| r.nonce_expiry_ms -= 90_000 + COMMIT_GRACE_MS + 1), at, "its nonce held until");
    assert!(audit_of(|r| r.nonce_expiry_ms -= 90_000 + COMMIT_GRACE_MS).verified, "within the grace of a commit");
}

#[test]
fn a_replay_a_gap_and_a_host_that_never_enrolled_are_found() {
    let mut world = World::new();
    world.step(|_| ());
    let replayed = world.leaves.pop().unwrap();
    world.leaves.push(replayed.clone());
    world.step(|_| ());
    world.leaves.push(replayed);
    assert_fault(&world.files().audit(), Some(5), "sequence 1 stands where 3 is due");

    let mut world = World::new();
    world.step(|_| ());
    world.sequence += 1;
    world.step(|_| ());
    assert_fault(&world.files().audit(), Some(4), "sequence 3 stands where 2 is due");

    let mut world = World::new();
    world.leaves.pop();
    world.step(|_| ());
    assert_fault(&world.files().audit(), Some(1), "has no enrolment");
}

#[test]
fn after_a_new_attestation_key_the_old_one_counts_no_more() {
    let mut world = World::new();
    world.step(|_| ());
    let old = std::mem::replace(&mut world.ak, Key::attestation().into());
    world.enrol();
    world.step(|_| ());
    assert!(world.files().audit().verified);
    world.ak = old;
    world.step(|_| ());
    assert_fault(&world.files().audit(), Some(7), "signature");
}

#[test]
fn keys_that_cannot_be_a_hosts_are_found_at_their_enrolment() {
    let mut world = World::new();
    let Decision::Enrolled(enrolled) = &mut world.leaves[1].decision else { unreachable!() };
    enrolled.host = HostId::of(&[b"other"]);
    assert_fault(&world.files().audit(), Some(1), "ek-mismatch");
    let mut world = World::new();
    world.ak = Key::endorsement().into();
    world.enrol();
    assert_fault(&world.files().audit(), Some(2), "ak-attributes");
}

#[test]
fn an_epoch_that_falls_is_found() {
    let raise = |world: &mut World, epoch| {
        let refusal = Refusal::new(Reason::ChainForked, "x");
        let host = world.ek.host();
        world.log(Decision::EpochRaised(EpochRaised { host, epoch, refusal, input: Digest::of(&[b"e"]) }));
    };
    let mut world = World::new();
    raise(&mut world, 2);
    assert!(world.files().audit().verified);
    raise(&mut world, 1);
    assert_fault(&world.files().audit(), Some(3), "from 2 to 1");
    let mut world = World::new();
    raise(&mut world, 5);
    world.enrol();
    assert_fault(&world.files().audit(), Some(3), "fell from 5 to 2");
}

#[test]
fn the_log_begins_with_its_one_genesis() {
    let mut world = World::new();
    let genesis = world.leaves[0].clone();
    world.leaves.push(genesis);
    assert_fault(&world.files().audit(), Some(2), "genesis");
    let mut world = World::new();
    world.leaves.remove(0);
    assert_fault(&world.files().audit(), Some(0), "genesis");
}

#[test]
fn a_leaf_that_does_not_read_is_found_though_signed() {
    let world = World::new();
    let mut leaves: Vec<Vec<u8>> = world.leaves.iter().map(|leaf| leaf.to_bytes()).collect();
    leaves.push(vec![0xA0]);
    assert_fault(&world.files_of(&leaves).audit(), Some(2), "does not read");
}

#[test]
fn missing_and_wrong_tiles_are_found_at_every_level() {
    let world = World::usual();
    for (path, leaf) in [("tile/0/000", Some(0)), ("tile/0/001.p/44", Some(256)), ("tile/1/000.p/1", None)] {
        let mut files = world.files();
        let bytes = files.0.remove(path).unwrap();
        assert_fault(&files.audit(), leaf, "is missing");
        files.0.insert(path.to_owned(), bytes[1..].to_vec());
        assert_fault(&files.audit(), leaf, "bytes");
        let mut changed = bytes;
        changed[0] ^= 1;
        files.0.insert(path.to_owned(), changed);
        assert_fault(&files.audit(), leaf, "hash 0");
    }
}

#[test]
fn an_old_checkpoint_is_verified_against_the_files_of_a_grown_log() {
    for grown_to in [301, 512, 1000] {
        let mut world = World::usual();
        let old = world.files().0[CHECKPOINT_PATH].clone();
        world.fill(grown_to);
        let mut files: Files = world.files();
        files.0.insert(CHECKPOINT_PATH.to_owned(), old);
        let report = files.audit();
        assert_eq!(report.faults, [], "grown to {grown_to}");
        assert!(report.verified && report.complete && report.size == 300 && report.witnesses_agreeing == 1);
    }
}

#[test]
fn a_host_that_saw_another_log_is_named_and_cannot_spoil_the_audit() {
    let mut world = World::usual();
    let truth = world.checkpoint();
    for witnessed in [
        WitnessedCheckpoint { root: Digest::of(&[b"fork"]), ..truth },
        WitnessedCheckpoint { size: truth.size + 50, ..truth },
    ] {
        world.witnessed = Some(witnessed);
        world.step(|_| ());
    }
    let report = world.files().audit();
    assert!(report.verified, "{:#?}", report.faults);
    assert_eq!(report.witness_conflicts.len(), 2, "{:#?}", report.witness_conflicts);
    assert!(report.witness_conflicts[0].what.contains(&world.ek.host().to_string()));
}

#[test]
fn reports_are_bounded_however_much_is_wrong() {
    let mut world = World::new();
    world.step(|_| ());
    let verdicts = world.leaves.pop().unwrap();
    let Decision::Verdicts(mut many) = verdicts.decision else { unreachable!() };
    let mut accepted = many.accepted.to_vec();
    accepted.resize(200, accepted[0].clone());
    accepted.iter_mut().enumerate().for_each(|(n, verdict)| verdict.sequence = 100_000 - 2 * n as u64);
    many.accepted = quotary_common::cbor::Bounded::new(accepted).unwrap();
    (0..20).for_each(|_| world.log(Decision::Verdicts(many.clone())));
    let report = world.files().audit();
    assert_eq!(report.faults.len(), crate::audit::LISTED_MAX);
    assert_eq!(report.fault_count, 4000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_byte_of_any_file_can_change(file in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        thread_local!(static LOG: Files = World::usual().files());
        let mut files = LOG.with(Clone::clone);
        let paths: Vec<String> = files.0.keys().cloned().collect();
        let path = &paths[file.index(paths.len())];
        let bytes = files.0.get_mut(path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(!files.audit().verified, "{path} byte {at}");
    }

    #[test]
    fn an_audit_of_any_bytes_ends_without_panic(noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..20)) {
        let world = World::new();
        let mut files = world.files_of(&noise);
        for bytes in &noise {
            files.0.insert(evidence_path(&Evidence::digest(bytes)), bytes.clone());
        }
        prop_assert!(!files.audit().verified);
    }
}
