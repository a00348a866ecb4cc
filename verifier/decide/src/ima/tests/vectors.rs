//! The published lists, against `expected.json`: PCR 10, template hashes, and the verdicts of their source.

use serde_json::Value;

use super::*;

fn lists() -> Vec<(&'static str, &'static [u8])> {
    vec![
        ("ascii_runtime_measurements", vector!("ascii_runtime_measurements")),
        ("ima-sig-unsigned.txt", vector!("ima-sig-unsigned.txt")),
        ("ima-sig-signed.txt", vector!("ima-sig-signed.txt")),
        ("ima-sig-combined.txt", vector!("ima-sig-combined.txt")),
        ("ima-sig-bad-signature.txt", vector!("ima-sig-bad-signature.txt")),
        ("ima-buf-keyring.txt", vector!("ima-buf-keyring.txt")),
    ]
}

fn rsa_key() -> SignerKey {
    SignerKey::from_pem(vector!("keys/rsa2048pub.pem")).unwrap()
}

fn ec_key() -> SignerKey {
    SignerKey::from_pem(vector!("keys/secp256k1pub.pem")).unwrap()
}

/// The allow-list of a policy of the source; digests that are not SHA-256 are left out.
fn policy(name: &str) -> AllowList {
    let policies: Value = serde_json::from_slice(vector!("runtime-policy.json")).unwrap();
    let mut pairs = Vec::new();
    for part in ["digests", "keyrings"] {
        for (path, digests) in policies[name][part].as_object().unwrap() {
            for digest in digests.as_array().unwrap() {
                if let Ok(digest) = digest.as_str().unwrap().parse() {
                    pairs.push((path.clone().into_bytes(), digest));
                }
            }
        }
    }
    AllowList::new(pairs).unwrap()
}

fn nothing() -> AllowList {
    AllowList::new(vec![]).unwrap()
}

fn verdict(list: &[u8], allowed: AllowList, keys: Vec<SignerKey>) -> Vec<&'static str> {
    let reference = Reference::new(allowed, SignerKeys::new(keys).unwrap(), vec![], vec![]).unwrap();
    findings_of(list, ListForm::Ascii, &reference)
}

#[test]
fn every_list_replays_to_its_stated_pcr_10_in_each_form() {
    let expected: Value = serde_json::from_slice(vector!("expected.json")).unwrap();
    assert_eq!(expected.as_object().unwrap().len(), lists().len());
    for (name, list) in lists() {
        let expected = &expected[name];
        let mismatches: Vec<u64> =
            expected["template_hash_mismatch"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        for list in [list.to_vec(), to_binary(list, ListForm::BinarySha1)] {
            let report = inspect(&list).unwrap();
            assert_eq!(report.entries, expected["entries"].as_u64().unwrap(), "{name}");
            assert_eq!(report.violations, expected["violations"].as_u64().unwrap(), "{name}");
            assert_eq!(report.pcr10.sha1, expected["pcr10_sha1_from_zero"].as_str().unwrap(), "{name}");
            let of_template: Vec<u64> =
                report.problems.iter().filter(|p| p.code == Code::TemplateHash).map(|p| p.entry).collect();
            assert_eq!(of_template, mismatches, "{name}");
            assert_eq!(report.problems.is_empty(), mismatches.is_empty(), "{name}: {:?}", report.problems);
        }
        let report = inspect(&to_binary(list, ListForm::BinarySha256)).unwrap();
        assert_eq!(report.entries, expected["entries"].as_u64().unwrap(), "{name}");
        let ascii = inspect(list).unwrap();
        assert_eq!(report.pcr10.sha256, ascii.pcr10.sha256, "{name}");
        assert_eq!(report.pcr10.sha1 == ascii.pcr10.sha1, mismatches.is_empty(), "{name}");
    }
}

/// The source states no SHA-256 values; these were computed apart, by a script that shares no code with this room.
#[test]
fn the_sha256_bank_replays_to_values_computed_apart() {
    for (list, pcr10) in [
        (vector!("ascii_runtime_measurements"), "c4a065637fc6a7c55f2811dd06cb45dd037133be2b3dc5c3e6fbe6bf061db724"),
        (vector!("ima-sig-combined.txt"), "54da63e10f8256b6f2ab85200a5a875a313b7b9e75ec9d4444f6b93efcc5dd8e"),
    ] {
        assert_eq!(inspect(list).unwrap().pcr10.sha256, pcr10);
    }
}

#[test]
fn key_ids_are_those_that_the_signatures_name() {
    let ids: Value = serde_json::from_slice(vector!("keys/keyids.json")).unwrap();
    for (name, key) in [("rsa2048pub.pem", rsa_key()), ("secp256k1pub.pem", ec_key())] {
        assert_eq!(data_encoding::HEXLOWER.encode(&key.id()), ids[name].as_str().unwrap());
    }
}

#[test]
fn unsigned_files_pass_by_digest_and_fail_without_a_policy() {
    let list = vector!("ima-sig-unsigned.txt");
    assert!(verdict(list, policy("matching"), vec![]).is_empty());
    assert_eq!(verdict(list, nothing(), vec![]), ["ima-unknown-file"; 2]);
}

#[test]
fn signed_files_pass_by_the_keys_that_are_configured() {
    let list = vector!("ima-sig-signed.txt");
    assert_eq!(verdict(list, nothing(), vec![]), ["ima-unknown-key"; 2]);
    assert_eq!(verdict(list, nothing(), vec![rsa_key()]), ["ima-unknown-key"]);
    assert_eq!(verdict(list, nothing(), vec![ec_key()]), ["ima-unknown-key"]);
    assert!(verdict(list, nothing(), vec![rsa_key(), ec_key()]).is_empty());
    assert!(verdict(list, policy("wrong_digests"), vec![rsa_key(), ec_key()]).is_empty());
    assert_eq!(verdict(list, policy("wrong_digests"), vec![]), ["ima-wrong-hash"; 2]);
    assert!(verdict(list, policy("matching"), vec![]).is_empty());
}

#[test]
fn a_mixed_list_passes_by_policy_or_by_policy_and_keys() {
    let list = vector!("ima-sig-combined.txt");
    let keys = || vec![rsa_key(), ec_key()];
    assert!(verdict(list, policy("matching"), vec![]).is_empty());
    assert!(verdict(list, policy("matching"), keys()).is_empty());
    assert_eq!(verdict(list, nothing(), keys()), ["ima-unknown-file"; 2]);
}

#[test]
fn a_changed_signature_is_refused_whether_its_file_is_allowed_or_excluded() {
    let list = vector!("ima-sig-bad-signature.txt");
    assert_eq!(verdict(list, policy("matching"), vec![]), ["ima-template-hash"]);
    let excluding =
        Reference::new(policy("matching"), SignerKeys::default(), vec![b"/usr/bin/zmore".to_vec()], vec![]).unwrap();
    assert_eq!(findings_of(list, ListForm::Ascii, &excluding), ["ima-template-hash"]);
    // With a template hash that matches, the header's length is what is wrong.
    let rehashed = to_binary(list, ListForm::BinarySha256);
    let allowing = Reference::new(policy("matching"), SignerKeys::default(), vec![], vec![]).unwrap();
    assert_eq!(findings_of(&rehashed, ListForm::BinarySha256, &allowing), ["ima-signature"]);
    let problems: Vec<Code> = inspect(list).unwrap().problems.iter().map(|problem| problem.code).collect();
    assert_eq!(problems, [Code::TemplateHash, Code::Signature]);
}

#[test]
fn a_key_added_to_a_keyring_is_looked_up_by_the_keyrings_name() {
    let list = vector!("ima-buf-keyring.txt");
    assert!(verdict(list, policy("matching"), vec![]).is_empty());
    assert_eq!(verdict(list, nothing(), vec![]), ["ima-unknown-file"]);
    let other = AllowList::new(vec![(b".ima".to_vec(), Digest::new([1; 32]))]).unwrap();
    assert_eq!(verdict(list, other, vec![]), ["ima-wrong-hash"]);
}

#[test]
fn sha1_digests_are_never_allowed() {
    let list = vector!("ascii_runtime_measurements");
    let codes = verdict(list, nothing(), vec![]);
    assert_eq!(codes.len(), FINDINGS_MAX);
    assert!(codes.iter().all(|code| *code == "ima-algorithm"));
}

#[test]
fn an_inspected_list_has_the_documented_json() {
    let report = serde_json::to_value(inspect(vector!("ima-sig-bad-signature.txt")).unwrap()).unwrap();
    assert_eq!(report["entries"], 1);
    assert_eq!(report["violations"], 0);
    assert_eq!(report["problems"][0]["code"], "ima-template-hash");
    assert_eq!(report["problems"][0]["entry"], 0);
    assert_eq!(report["problems"][0]["detail"], "/usr/bin/zmore");
    assert_eq!(report["pcr10"].as_object().unwrap().len(), 2);
    assert_eq!(report.as_object().unwrap().len(), 4);
}
