//! The offline verbs as they are started, on files of real machines and tools.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn quotary(words: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_quotary"))
        .args(words)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no standard input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// The exit code, and what was printed.
fn inspect(words: &[&str]) -> (Option<i32>, String) {
    let output = quotary(&[&["inspect"], words].concat(), b"");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// The exit code and the report.
fn report(words: &[&str]) -> (Option<i32>, Value) {
    let (code, text) = inspect(&[words, &["--json"]].concat());
    (code, serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

fn vector(name: &str) -> String {
    root().join("data/attestation").join(name).to_str().unwrap().to_owned()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The words for a quote in a folder.
fn quote_of(folder: &str, key: &str, more: &[&str]) -> Vec<String> {
    let file = |name: &str| vector(&format!("{folder}/{name}"));
    let words = ["quote", "--ak", &file(key), "--message", &file("quote.msg"), "--signature", &file("quote.sig")];
    words.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn quotes_of_tpm2_quote_hold_with_either_key_form_and_either_form_of_values() {
    let nonce = data_encoding::HEXUPPER.encode(b"quotary inspect");
    for folder in ["ecdsa-p256", "ecdsa-p384", "rsapss-2048", "rsapss-3072", "rsassa-sha384"] {
        for key in ["ak.pem", "ak.tpm2b"] {
            for values in ["quote.pcrs", "quote.values"] {
                let pcrs = vector(&format!("tpm2-tools/{folder}/{values}"));
                let words = quote_of(&format!("tpm2-tools/{folder}"), key, &["--pcrs", &pcrs, "--nonce", &nonce]);
                let (code, report) = report(&borrowed(&words));
                assert_eq!((code, &report["verified"], &report["reasons"]), (Some(0), &json!(true), &json!([])));
                assert_eq!(keys(&report), ["attest", "pcrs", "reasons", "verified"]);
                assert!(!report["pcrs"].as_object().unwrap().is_empty());
                let (code, text) = inspect(&borrowed(&words));
                assert!(code == Some(0) && text.ends_with("\nVERIFIED\n"), "{text}");
            }
        }
    }
}

#[test]
fn a_refused_quote_is_1_and_says_every_reason() {
    let folder = "tpm2-tools/ecdsa-p256";
    let (code, said) = report(&borrowed(&quote_of(folder, "ak.pem", &["--nonce", "00ff"])));
    assert_eq!((code, &said["reasons"][0]["code"]), (Some(1), &json!("extra-data")));
    let other = vector("tpm2-tools/ecdsa-p384/quote.pcrs");
    let (code, said) = report(&borrowed(&quote_of(folder, "ak.pem", &["--nonce", "00ff", "--pcrs", &other])));
    assert_eq!((code, said["reasons"].as_array().unwrap().len(), &said["pcrs"]), (Some(1), 2, &json!({})));
    let (code, text) = inspect(&borrowed(&quote_of(folder, "ak.pem", &["--nonce", "00ff"])));
    assert!(code == Some(1) && text.contains("extra-data") && text.ends_with("NOT VERIFIED\n"), "{text}");
    // With an envelope the nonce alone is not what extraData must be.
    let home = tempfile::tempdir().unwrap();
    let envelope = golden_envelope(home.path(), 2);
    let more = ["--nonce", &"07".repeat(32), "--envelope", &envelope];
    let (code, said) = report(&borrowed(&quote_of(folder, "ak.pem", &more)));
    assert_eq!((code, &said["reasons"][0]["code"]), (Some(1), &json!("extra-data")));
}

fn golden_envelope(directory: &std::path::Path, version: u8) -> String {
    let golden = root().join(format!("golden/envelope-v{version}.hex"));
    let text: String = std::fs::read_to_string(golden).unwrap().split_whitespace().collect();
    let path = directory.join("envelope.cbor");
    std::fs::write(&path, data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_wrong_nonce_on_the_command_line_is_64() {
    let home = tempfile::tempdir().unwrap();
    let envelope = golden_envelope(home.path(), 2);
    let long = "00".repeat(67);
    for more in [
        &["--nonce", "abc"][..],
        &["--nonce", "zz"],
        &["--nonce", ""],
        &["--nonce", &long],
        &["--envelope", &envelope],
        &["--nonce", "00ff", "--envelope", &envelope],
    ] {
        let (code, _) = inspect(&borrowed(&quote_of("tpm2-tools/ecdsa-p256", "ak.pem", more)));
        assert_eq!(code, Some(64), "{more:?}");
    }
    for words in [&["quote"][..], &["eventlog"], &["ima", "a", "b"], &["ek"], &["envelope"], &[]] {
        assert_eq!(inspect(words).0, Some(64), "{words:?}");
    }
}

#[test]
fn files_that_are_not_what_they_should_be_are_2() {
    let text = vector("README.md");
    let no_key = quote_of("tpm2-tools/ecdsa-p256", "quote.sig", &[]);
    let no_envelope = quote_of("tpm2-tools/ecdsa-p256", "ak.pem", &["--nonce", &"07".repeat(32), "--envelope", &text]);
    let large = quote_of("tpm2-tools/ecdsa-p256", "ak.pem", &["--pcrs", "/dev/zero"]);
    for words in [borrowed(&no_key), borrowed(&no_envelope), borrowed(&large)] {
        assert_eq!(inspect(&words).0, Some(2), "{words:?}");
    }
    let bogus = vector("eventlogs-odd/binary_bios_measurements-bogus");
    for words in [
        &["eventlog", &bogus][..],
        &["eventlog", "/dev/zero"],
        &["eventlog", "/nonexistent"],
        &["ima", &text],
        &["ek", &text],
        &["envelope", &text],
        &["envelope", "/dev/zero"],
    ] {
        let output = quotary(&[&["inspect"], words].concat(), b"");
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{words:?}");
        assert!(output.stderr.starts_with(b"quotary: "), "{words:?}");
    }
}

#[test]
fn a_boot_log_replays_to_its_stated_values_and_problems_are_1() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(vector("eventlogs/expected_pcrs.json")).unwrap()).unwrap();
    let mut codes = Vec::new();
    for name in ["ubuntu-2104-no-dbx", "rhel8-uefi", "debian-10"] {
        let path = vector(&format!("eventlogs/{name}.bin"));
        let (code, said) = report(&["eventlog", &path]);
        assert_eq!(keys(&said), ["banks", "events", "problems", "secure_boot"]);
        let stated = expected[name].as_object().or_else(|| expected[format!("{name}.bin")].as_object()).unwrap();
        assert_eq!(said["secure_boot"], stated["secure_boot"], "{name}");
        for (bank, values) in stated.iter().filter(|(key, _)| *key != "secure_boot") {
            for (pcr, value) in values.as_object().unwrap() {
                let replayed = &said["banks"][bank.to_lowercase()][pcr];
                assert!(replayed.is_null() || replayed == value, "{name} {bank} {pcr}");
            }
        }
        assert!(said["banks"].as_object().unwrap().values().any(|bank| bank["7"].is_string()));
        assert_eq!(code, Some(i32::from(said["problems"] != json!([]))), "{name}");
        codes.push(code);
        let (text_code, text) = inspect(&["eventlog", &path]);
        assert!(text_code == code && text.contains("Replayed values") && text.contains("Secure Boot"), "{text}");
    }
    assert!(codes.contains(&Some(0)) && codes.contains(&Some(1)), "{codes:?}");
}

#[test]
fn a_measurement_list_replays_to_the_pcr_that_was_computed_independently() {
    let list = vector("ima/ascii_runtime_measurements");
    let expected: Value = serde_json::from_slice(&std::fs::read(vector("ima/expected.json")).unwrap()).unwrap();
    let (code, said) = report(&["ima", &list]);
    assert_eq!((code, &said["entries"], &said["violations"]), (Some(0), &json!(826), &json!(0)));
    assert_eq!(keys(&said), ["entries", "pcr10", "problems", "violations"]);
    let replayed = said["pcr10"]["sha1"].as_str().unwrap();
    assert_eq!(said["pcr10"]["sha256"].as_str().unwrap().len(), 64);
    let (code, text) = inspect(&["ima", &list]);
    assert!(code == Some(0) && text.contains(replayed) && text.contains("no problems"), "{text}");
    for name in ["ascii_runtime_measurements", "ima-sig-signed.txt", "ima-sig-unsigned.txt", "ima-buf-keyring.txt"] {
        let (code, said) = report(&["ima", &vector(&format!("ima/{name}"))]);
        let stated = &expected[name]["pcr10_sha1_from_zero"];
        assert_eq!((code, &said["pcr10"]["sha1"]), (Some(0), stated), "{name}");
        assert_eq!(said["entries"], expected[name]["entries"], "{name}");
    }
    let (code, said) = report(&["ima", &vector("ima/ima-sig-bad-signature.txt")]);
    assert_eq!((code, &said["problems"][0]["code"]), (Some(1), &json!("ima-template-hash")), "{said}");
}

#[test]
fn a_violation_or_a_changed_entry_is_1() {
    let list = std::fs::read_to_string(vector("ima/ascii_runtime_measurements")).unwrap();
    let second = list.lines().nth(1).unwrap();
    let hash = second.split(' ').nth(1).unwrap();
    for (wrong, problem, violations) in
        [("0".repeat(40), "ima-violation", 1), (hash.chars().rev().collect(), "ima-template-hash", 0)]
    {
        let changed = list.replacen(hash, &wrong, 1);
        let output = quotary(&["inspect", "ima", "-", "--json"], changed.as_bytes());
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &said["violations"]), (Some(1), &json!(violations)), "{problem}");
        assert!(said["problems"].as_array().unwrap().iter().any(|p| p["code"] == problem && p["entry"] == 1), "{said}");
    }
}

#[test]
fn standard_input_is_read_for_one_file() {
    let path = vector("eventlogs/ubuntu-2104-no-dbx.bin");
    let bytes = std::fs::read(&path).unwrap();
    let piped = quotary(&["inspect", "eventlog", "-", "--json"], &bytes);
    let (code, said) = report(&["eventlog", &path]);
    assert_eq!(piped.status.code(), code);
    assert_eq!(serde_json::from_slice::<Value>(&piped.stdout).unwrap(), said);
    let empty = quotary(&["inspect", "envelope", "-"], b"");
    assert_eq!(empty.status.code(), Some(2));
    assert!(String::from_utf8(empty.stderr).unwrap().contains("standard input"));
}

#[test]
fn an_ek_is_judged_up_to_the_given_roots_or_a_manufacturers() {
    let (leaf, issuer, root) = (vector("swtpm/rsa2048/ek.der"), vector("swtpm/issuer.der"), vector("swtpm/root.der"));
    let (code, said) = report(&["ek", &leaf, &issuer, "--roots", &root]);
    assert_eq!((code, &said["verified"], &said["reasons"]), (Some(0), &json!(true), &json!([])), "{said}");
    assert_eq!(said["chain"].as_array().unwrap().len(), 3);
    assert!(["verified", "reasons", "chain"].iter().all(|key| keys(&said).contains(key)));
    let (code, text) = inspect(&["ek", &leaf, &issuer, "--roots", &root]);
    assert!(code == Some(0) && text.ends_with("\nVERIFIED\n"), "{text}");
    let (code, said) = report(&["ek", &leaf, &issuer]);
    assert_eq!((code, &said["verified"]), (Some(1), &json!(false)), "no manufacturer answers for it");
    assert_eq!(said["reasons"][0]["code"], "ek-chain");
    let (code, text) = inspect(&["ek", &leaf, "--roots", &root]);
    assert!(code == Some(1) && text.contains("ek-chain") && text.ends_with("NOT VERIFIED\n"), "{text}");
}

#[test]
fn an_envelope_shows_its_claims_and_its_digest() {
    let home = tempfile::tempdir().unwrap();
    for version in [1, 2] {
        let path = golden_envelope(home.path(), version);
        let digest = root().join(format!("golden/envelope-v{version}.digest.hex"));
        let digest = std::fs::read_to_string(digest).unwrap();
        let (code, said) = report(&["envelope", &path]);
        assert_eq!((code, said["digest"].as_str()), (Some(0), Some(digest.trim())));
        assert_eq!(said["bytes"], std::fs::read(&path).unwrap().len());
        assert!(said["facts"]["hostname"].is_string());
        let first = json!({
            "metric": "disk_read_bytes_per_second", "start_ms": 15_000, "duration_ms": 15_000, "samples": 15,
            "mean": 1024, "max": 70_000, "p95": 65_536,
        });
        assert_eq!(said["host_windows"][0], first, "windows read the same in every version");
        let (code, text) = inspect(&["envelope", &path]);
        assert!(code == Some(0) && text.contains(digest.trim()), "{text}");
    }
}
