//! An agent one version older or newer than its verifier still talks to it (docs/OPERATIONS.md, Upgrades).
//!
//! `tests/golden/exchange-VERSION.json` keeps what that version said: each body of enrolment and evidence. Every kept
//! exchange is read by today's forms, both ways, so that a field that is removed, renamed, retyped or newly required shows.
//! A release that changes a body adds a file (`QUOTARY_GOLDEN=write` writes one that is missing) and keeps that of the
//! version before. What the bodies carry in CBOR is held by `golden.rs`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;

use quotary_common::id::{BootId, DeploymentId, Digest, EnrolmentId, HostId};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{
    ActivationRequest, Base64, EnrolmentChallenge, EnrolmentReply, EnrolmentRequest, Error, EvidenceReply,
    EvidenceRequest, LogsWanted, NonceReply, PcrBank, Timing,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Versions whose agents and verifiers may be met, oldest first; the last is this one.
const VERSIONS: [&str; 1] = ["0.1"];

fn bytes(byte: u8) -> Base64 {
    Base64(vec![byte; 4])
}

fn nonce() -> NonceReply {
    NonceReply {
        nonce: Base64(vec![10; 32]),
        pcr_selection: vec![PcrBank { hash_alg: 11, pcrs: vec![0, 7] }],
        next_sequence: 43,
        predecessor: Digest::new([4; 32]),
        checkpoint: "quotary.example/log\n7\n".to_owned(),
        consistency: vec![Digest::new([6; 32])],
        logs: LogsWanted {
            boot_log: true,
            ima_list: true,
            held_of: Some(BootId::new([3; 16])),
            has_boot_log: true,
            ima_offset_bytes: 300,
            measure_log: true,
            measure_log_held: Some(Digest::new([5; 32])),
        },
    }
}

/// What this version says, with every field there.
fn said() -> Value {
    let host = HostId::new([2; 32]);
    json!({
        "enrolment request": EnrolmentRequest {
            join_secret: bytes(1),
            ek_public: bytes(2),
            ek_certificates: vec![bytes(3), bytes(4)],
            ak_public: bytes(5),
            host: Some(host),
        },
        "enrolment challenge": EnrolmentChallenge {
            enrolment: EnrolmentId::new([9; 32]),
            credential_blob: bytes(6),
            encrypted_secret: bytes(7),
        },
        "activation request": ActivationRequest { secret: bytes(8) },
        "enrolment reply": EnrolmentReply {
            host,
            deployment: DeploymentId::new([1; 32]),
            keys: bytes(9),
            epoch: 2,
            timing: Timing { window_ms: 15_000, evidence_ms: 30_000, lease_ms: 300_000 },
        },
        "nonce reply": nonce(),
        "evidence request": EvidenceRequest { evidence: bytes(10) },
        "evidence reply": EvidenceReply {
            evidence: Digest::new([24; 32]),
            zone: "measured".to_owned(),
            findings: vec!["rebooted".to_owned()],
            valid_until_ms: 1_700_000_000_000,
            grant_set: bytes(11),
            plans: vec![bytes(12)],
            authority: None,
            quorum_decisions: None,
            next: nonce(),
        },
        "error": Error::from(&Refusal::new(Reason::Zone, "no zone")),
    })
}

fn kept(version: &str) -> Map<String, Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/exchange-{version}.json"));
    if !path.exists() && std::env::var_os("QUOTARY_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, format!("{:#}\n", said())).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// What today's form makes of a body; panics where it does not read it.
fn told_again<T: Serialize + DeserializeOwned>(body: &Value) -> Value {
    let read: T = serde_json::from_value(body.clone()).unwrap_or_else(|error| panic!("{error} in {body:#}"));
    serde_json::to_value(read).unwrap()
}

fn today(name: &str, body: &Value) -> Value {
    match name {
        "enrolment request" => told_again::<EnrolmentRequest>(body),
        "enrolment challenge" => told_again::<EnrolmentChallenge>(body),
        "activation request" => told_again::<ActivationRequest>(body),
        "enrolment reply" => told_again::<EnrolmentReply>(body),
        "nonce reply" => told_again::<NonceReply>(body),
        "evidence request" => told_again::<EvidenceRequest>(body),
        "evidence reply" => told_again::<EvidenceReply>(body),
        "error" => told_again::<Error>(body),
        other => panic!("nobody reads `{other}` any more"),
    }
}

/// Whether `now` says all that `before` said: it may say more.
fn says_as_much(now: &Value, before: &Value) -> bool {
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => {
            before.iter().all(|(key, value)| now.get(key).is_some_and(|own| says_as_much(own, value)))
        }
        (Value::Array(now), Value::Array(before)) => {
            now.len() == before.len() && now.iter().zip(before).all(|(now, before)| says_as_much(now, before))
        }
        _ => now == before,
    }
}

/// The same body of a later version: every object in it has one more field.
fn of_later(body: &Value) -> Value {
    match body {
        Value::Object(fields) => {
            let more = ("of a later version".to_owned(), json!({"anything": [1]}));
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), of_later(value))).chain([more]).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(of_later).collect()),
        other => other.clone(),
    }
}

#[test]
fn what_a_version_before_said_is_read_and_today_says_no_less() {
    for version in VERSIONS {
        let kept = kept(version);
        assert!(kept.len() >= 8, "{version}");
        for (name, body) in &kept {
            let now = today(name, body);
            assert!(says_as_much(&now, body), "{name} of {version}: {body:#} became {now:#}");
        }
    }
}

#[test]
fn what_a_later_verifier_adds_to_its_answers_is_overlooked() {
    for (name, body) in kept(VERSIONS[VERSIONS.len() - 1]).iter().filter(|(name, _)| !name.ends_with("request")) {
        assert_eq!(today(name, &of_later(body)), today(name, body), "{name}");
    }
}

#[test]
fn this_versions_exchange_is_the_one_that_is_kept_of_it() {
    assert_eq!(Value::Object(kept(VERSIONS[VERSIONS.len() - 1])), said(), "keep a new version's exchange beside it");
}
