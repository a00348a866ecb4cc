//! Every check has its reason, and the first that fails is the one that is told.

use quotary_common::cbor::Bounded;
use quotary_common::evidence::{Evidence, PcrValue};
use quotary_common::id::{DeploymentId, Digest, HostId};
use quotary_common::reason::Reason;

use super::super::{ClockPosition, Finding, NextEvidence, Prechecked, precheck, prove_quote, verify};
use super::scene::{Draft, NOW_MS, Scene};
use super::software_tpm::{FIRMWARE_VERSION, Pair};

/// A case: its name, what is changed, and the reason that must follow.
type BeforeSigning = (&'static str, fn(&mut Draft), Reason);
type AfterSigning = (&'static str, fn(&mut Evidence), Reason);

#[test]
fn an_honest_chain_is_verified_step_by_step() {
    let mut scene = Scene::new();
    for sequence in 1..=5 {
        let bytes = scene.sign(&scene.draft()).to_bytes();
        let verified = scene.judge(&bytes).unwrap();
        assert_eq!(verified.claims().sequence, sequence);
        assert_eq!(verified.evidence_digest(), Evidence::digest(&bytes));
        assert_eq!((verified.evidence_bytes(), verified.nonce()), (&bytes[..], scene.nonce()));
        assert_eq!(verified.pcr_values().len(), 8);
        assert!(verified.findings().is_empty());
        assert_eq!(scene.advance().len(), bytes.len());
    }
    let last = ClockPosition { reset_count: 5, restart_count: 2, clock_ms: 5000 };
    assert_eq!((scene.host.committed.sequence, scene.host.committed.clock), (5, Some(last)));
}

#[test]
fn whatever_a_signer_puts_into_a_quote_that_does_not_belong_there_is_refused_with_its_reason() {
    let cases: &[BeforeSigning] = &[
        ("magic of no TPM", |d| d.shape.magic = 0xFF54_4346, Reason::NotAQuote),
        ("a certification posing as a quote", |d| d.shape.kind = 0x8017, Reason::NotAQuote),
        ("a time attestation posing as a quote", |d| d.shape.kind = 0x8019, Reason::NotAQuote),
        ("a byte after the quote", |d| d.shape.trailing = vec![0], Reason::NotAQuote),
        ("safe neither 0 nor 1", |d| d.shape.safe = 2, Reason::NotAQuote),
        ("an owner-hierarchy AK", |d| d.shape.qualified_signer = vec![0, 0x0B, 9, 9], Reason::QualifiedSigner),
        ("no qualified signer", |d| d.shape.qualified_signer.clear(), Reason::QualifiedSigner),
        ("other extra data", |d| d.shape.extra_data = Some(vec![0; 32]), Reason::ExtraData),
        ("no extra data", |d| d.shape.extra_data = Some(Vec::new()), Reason::ExtraData),
        ("one PCR too few", |d| d.shape.selection[7] = 0x7F, Reason::PcrSelection),
        ("one PCR too many", |d| d.shape.selection[8] = 1, Reason::PcrSelection),
        ("PCR 16 to 23 for 0 to 7", |d| d.shape.selection[7..].copy_from_slice(&[0, 0, 0xFF]), Reason::PcrSelection),
        ("the SHA-1 bank", |d| d.shape.selection[5] = 4, Reason::PcrSelection),
        ("a second bank", second_bank, Reason::PcrSelection),
        ("four select bytes", |d| d.shape.selection = vec![0, 0, 0, 1, 0, 0x0B, 4, 0xFF, 0, 0, 0], Reason::NotAQuote),
        ("17 banks", |d| d.shape.selection[3] = 17, Reason::NotAQuote),
        ("no bank", |d| d.shape.selection = vec![0; 4], Reason::NotAQuote),
        ("a value relabelled", |d| d.values[3].index = 16, Reason::PcrSelection),
        ("a value of another bank", |d| d.values[3].hash_alg = 0x0C, Reason::PcrSelection),
        ("a value twice", |d| d.values.push(d.values[0].clone()), Reason::PcrSelection),
        ("a value that was not signed", unsigned_value, Reason::PcrSelection),
        ("a value missing", drop_value, Reason::PcrSelection),
        ("no value", |d| d.values.clear(), Reason::PcrSelection),
        ("a value cut short", |d| d.values[0].value.truncate(31), Reason::PcrSelection),
        ("two values exchanged", exchange_values, Reason::PcrDigest),
        ("a value changed", |d| d.values[7].value[0] ^= 1, Reason::PcrDigest),
        ("no digest", |d| d.shape.pcr_digest.clear(), Reason::PcrDigest),
        ("a clock that stands", |d| d.shape.clock_ms -= 1000, Reason::ClockBackward),
        ("a clock that goes back", |d| d.shape.clock_ms -= 1001, Reason::ClockBackward),
        ("a reset count that goes back", |d| d.shape.reset_count -= 1, Reason::ClockBackward),
        ("a restart count that goes back", |d| d.shape.restart_count -= 1, Reason::ClockBackward),
        ("another predecessor", |d| d.envelope.predecessor = Digest::of(&[b"other"]), Reason::ChainForked),
        ("another deployment", |d| d.envelope.deployment = DeploymentId::of(&[b"other"]), Reason::UnknownHost),
        ("another host", |d| d.envelope.host = HostId::of(&[b"other"]), Reason::TlsKey),
        ("another TLS key in the envelope", |d| d.envelope.tls_key = Digest::of(&[b"other"]), Reason::TlsKey),
        ("a sequence ahead", |d| d.envelope.sequence += 1, Reason::SequenceStale),
        ("sequence 0", |d| d.envelope.sequence = 0, Reason::SequenceStale),
        ("the last sequence there is", |d| d.envelope.sequence = u64::MAX, Reason::SequenceStale),
        ("a nonce of nobody", |d| d.nonce[20] ^= 1, Reason::NonceUnknown),
        ("a nonce with a longer life", |d| d.nonce[0] = 0xFF, Reason::NonceUnknown),
        ("a nonce of zeros", |d| d.nonce = [0; 32], Reason::NonceUnknown),
    ];
    let mut scene = Scene::new();
    scene.advance();
    for (name, change, reason) in cases {
        let mut draft = scene.draft();
        change(&mut draft);
        assert_eq!(scene.judge(&scene.sign(&draft).to_bytes()).err(), Some(*reason), "{name}");
    }
}

fn second_bank(draft: &mut Draft) {
    draft.shape.selection = vec![0, 0, 0, 2, 0, 0x0B, 3, 0xFF, 0, 0, 0, 0x0C, 3, 1, 0, 0];
}

fn unsigned_value(draft: &mut Draft) {
    draft.values.push(PcrValue { hash_alg: 0x0B, index: 10, value: vec![0; 32] });
}

fn drop_value(draft: &mut Draft) {
    draft.values.pop();
    draft.digest_values();
}

fn exchange_values(draft: &mut Draft) {
    let first = std::mem::take(&mut draft.values[0].value);
    draft.values[0].value = std::mem::replace(&mut draft.values[1].value, first);
}

#[test]
fn whatever_is_changed_after_signing_is_refused_with_its_reason() {
    let cases: &[AfterSigning] = &[
        ("an envelope altered after quoting", |e| *e.envelope.last_mut().unwrap() ^= 1, Reason::ExtraData),
        ("an envelope that is no CBOR", |e| e.envelope = vec![0xFF; 64], Reason::Malformed),
        ("an envelope with a byte more", |e| e.envelope.push(0), Reason::Malformed),
        ("a bit of the quote", |e| e.attest[40] ^= 1, Reason::Signature),
        ("the type of the quote", |e| e.attest[5] = 0x17, Reason::Signature),
        ("a byte after the quote", |e| e.attest.push(0), Reason::Signature),
        ("no quote", |e| e.attest.clear(), Reason::Signature),
        ("a quote beyond its bound", |e| e.attest.resize(1025, 0), Reason::TooLarge),
        ("a signature beyond its bound", |e| e.signature.resize(1025, 0), Reason::TooLarge),
        ("a byte after the signature", |e| e.signature.push(0), Reason::Signature),
        ("a signature said to be RSA's", |e| e.signature[1] = 0x14, Reason::Signature),
        ("a signature over SHA-1", |e| e.signature[3] = 4, Reason::Signature),
        ("a quote at its bound", |e| e.attest.resize(1024, 0), Reason::Signature),
        ("a signature at its bound", |e| e.signature.resize(1024, 0), Reason::Signature),
        ("no signature", |e| e.signature.clear(), Reason::Signature),
        ("another key's signature", |e| e.signature = Pair::new().sign(&e.attest), Reason::Signature),
    ];
    let mut scene = Scene::new();
    scene.advance();
    for (name, change, reason) in cases {
        let mut evidence = scene.sign(&scene.draft());
        change(&mut evidence);
        assert_eq!(scene.judge(&evidence.to_bytes()).err(), Some(*reason), "{name}");
    }
}

#[test]
fn bounds_host_and_tls_key_come_before_the_form() {
    let scene = Scene::new();
    let good = scene.sign(&scene.draft()).to_bytes();
    let reason = |arrival, host| precheck(&arrival, host, &scene.nonce_key, NOW_MS).err().map(|refusal| refusal.reason);
    let huge = vec![0; quotary_common::limits::EVIDENCE_BYTES_MAX + 1];
    assert_eq!(reason(scene.arrival(&huge), None), Some(Reason::TooLarge));
    assert_eq!(reason(scene.arrival(&huge[1..]), None), Some(Reason::UnknownHost));
    assert_eq!(reason(scene.arrival(b"no form"), None), Some(Reason::UnknownHost));
    let mut stranger = scene.arrival(b"no form");
    stranger.tls_key = Digest::of(&[b"stolen or new"]);
    assert_eq!(reason(stranger, Some(&scene.host)), Some(Reason::TlsKey));
    assert_eq!(reason(scene.arrival(b"no form"), Some(&scene.host)), Some(Reason::Malformed));
    let mut elsewhere = scene.arrival(&good);
    elsewhere.host = HostId::of(&[b"other"]);
    assert_eq!(reason(elsewhere, Some(&scene.host)), Some(Reason::UnknownHost), "a record of another host");
    assert_eq!(reason(scene.arrival(&good), Some(&scene.host)), None);
}

#[test]
fn a_nonce_dies_by_time_and_by_the_next_commit() {
    let mut scene = Scene::new();
    let bytes = scene.sign(&scene.draft()).to_bytes();
    let late = precheck(&scene.arrival(&bytes), Some(&scene.host), &scene.nonce_key, NOW_MS + 90_001);
    assert_eq!(late.unwrap_err().reason, Reason::NonceExpired);
    let old = scene.nonce();
    scene.advance();
    let mut draft = scene.draft();
    draft.nonce = *old.as_bytes();
    assert_eq!(scene.judge(&scene.sign(&draft).to_bytes()).unwrap_err(), Reason::NonceUnknown);
}

#[test]
fn evidence_of_one_host_does_not_pass_for_another() {
    let (victim, mut liar) = (Scene::new(), Scene::new());
    // The liar's own TPM and connection, the victim's name: first in the envelope, then on the route too.
    let mut draft = liar.draft();
    draft.envelope.host = victim.host.host;
    let bytes = liar.sign(&draft).to_bytes();
    assert_eq!(liar.judge(&bytes).unwrap_err(), Reason::TlsKey);
    liar.host.host = victim.host.host;
    let bytes = liar.sign(&liar.draft()).to_bytes();
    assert_eq!(victim.judge(&bytes).unwrap_err(), Reason::Signature);
}

#[test]
fn a_boot_a_resume_and_a_loss_of_power_are_findings_and_no_refusals() {
    let mut scene = Scene::new();
    scene.advance();
    // (reset, restart, clock, safe) after (5, 2, 1000).
    for (shape, findings) in [
        ((5, 2, 1001, 0), vec![Finding::ClockUnsafe]),
        ((5, 3, 1, 1), vec![Finding::Resumed]),
        ((6, 0, 1, 0), vec![Finding::ClockUnsafe, Finding::Rebooted]),
    ] {
        let mut draft = scene.draft();
        (draft.shape.reset_count, draft.shape.restart_count, draft.shape.clock_ms, draft.shape.safe) = shape;
        let verified = scene.judge(&scene.sign(&draft).to_bytes()).unwrap();
        assert_eq!(verified.findings(), findings, "{shape:?}");
    }
}

fn next(scene: &Scene, bytes: &[u8]) -> NextEvidence {
    match scene.precheck(bytes).unwrap() {
        Prechecked::Next(next) => *next,
        other => panic!("{other:?}"),
    }
}

#[test]
fn evidence_that_waited_while_its_host_moved_on_is_stale() {
    let mut scene = Scene::new();
    let waiting = next(&scene, &scene.sign(&scene.draft()).to_bytes());
    scene.advance();
    let stale = verify(waiting.clone(), &scene.host, &scene.required).unwrap_err();
    assert_eq!(stale.reason, Reason::SequenceStale);
    let other = Scene::new();
    assert_eq!(verify(waiting, &other.host, &scene.required).unwrap_err().reason, Reason::SequenceStale);
}

#[test]
fn several_banks_are_hashed_in_the_signed_order_whatever_order_the_values_come_in() {
    let mut scene = Scene::new();
    scene.required = "sha256:0,16+sha384:4".parse().unwrap();
    let mut draft = scene.draft();
    draft.shape.selection = vec![0, 0, 0, 2, 0, 0x0C, 3, 0x10, 0, 0, 0, 0x0B, 3, 1, 0, 1];
    draft.values = vec![
        PcrValue { hash_alg: 0x0C, index: 4, value: vec![4; 48] },
        PcrValue { hash_alg: 0x0B, index: 0, value: vec![1; 32] },
        PcrValue { hash_alg: 0x0B, index: 16, value: vec![2; 32] },
    ];
    draft.digest_values();
    let signed_order = draft.values.clone();
    draft.values.sort();
    assert_ne!(draft.values, signed_order);
    let verified = scene.judge(&scene.sign(&draft).to_bytes()).unwrap();
    assert_eq!(verified.pcr_values(), signed_order);
}

#[test]
fn what_is_proven_is_what_was_signed() {
    let scene = Scene::new();
    let draft = scene.draft();
    let evidence = scene.sign(&draft);
    let verified = scene.judge(&evidence.to_bytes()).unwrap();
    let envelope = Digest::of(&[&evidence.envelope]);
    let proven = prove_quote(evidence, &envelope, scene.host.signer(), &scene.required).unwrap();
    assert_eq!((proven.pcr_values(), verified.pcr_values()), (&draft.values[..], &draft.values[..]));
    assert_eq!((proven.firmware_version(), verified.firmware_version()), (FIRMWARE_VERSION, FIRMWARE_VERSION));
    let clock = proven.clock();
    assert_eq!((clock.clock_ms, clock.reset_count, clock.restart_count, clock.safe), (scene.clock_ms, 5, 2, true));
    assert_eq!(verified.clock(), ClockPosition::from(clock));
    assert_eq!((verified.envelope_digest(), verified.envelope().digest()), (envelope, envelope));
}

#[test]
fn evidence_in_another_encoding_is_malformed() {
    let scene = Scene::new();
    let evidence = scene.sign(&scene.draft());
    let mut bytes = evidence.to_bytes();
    bytes.push(0);
    assert_eq!(scene.judge(&bytes).unwrap_err(), Reason::Malformed);
    let mut without_values = evidence;
    without_values.pcr_values = Bounded::default();
    assert_eq!(scene.judge(&without_values.to_bytes()).unwrap_err(), Reason::PcrSelection);
}
