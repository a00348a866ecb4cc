//! Quotes of real TPMs in the forms that tpm2-tools write.

use quotary_common::tpm::PcrSelection;
use serde_json::Value;

use super::*;
use crate::inspect::{InspectError, SuppliedPcrs, serialize_pcrs};

const KEYLIME: &str = "keylime-rsa2048-sha256";

#[test]
fn keylimes_quote_holds_and_its_report_says_what_the_vector_states() {
    let vector: Value = serde_json::from_slice(&data("keylime-rsa2048-sha256/vector.json")).unwrap();
    let mut files = Files::of(KEYLIME);
    files.nonce = Some(vector["nonce_ascii"].as_str().unwrap().as_bytes().to_vec());
    let report = serde_json::to_value(files.report()).unwrap();
    assert_eq!((&report["verified"], &report["reasons"]), (&Value::Bool(true), &serde_json::json!([])));
    let (attest, stated) = (&report["attest"], &vector["attest"]);
    for (field, name) in [
        ("magic", "magic"),
        ("type", "type"),
        ("qualified_signer", "qualified_signer_hex"),
        ("extra_data", "extra_data_hex"),
        ("clock_ms", "clock"),
        ("reset_count", "reset_count"),
        ("restart_count", "restart_count"),
        ("firmware_version", "firmware_version_hex"),
        ("pcr_digest", "pcr_digest_hex"),
    ] {
        assert_eq!(attest[field], stated[name], "{field}");
        assert!(!attest[field].is_null(), "{field}");
    }
    assert_eq!(attest["safe"], true);
    assert_eq!(attest["pcr_select"], serde_json::json!([{"bank": "sha256", "pcrs": [16]}]));
    assert_eq!(report["pcrs"], vector["pcr_values"]);
}

#[test]
fn keylimes_four_negative_cases_are_refused() {
    let good = Files::of(KEYLIME);
    let mut of_another_type = good.clone();
    of_another_type.message[5] ^= 1;
    assert_eq!(of_another_type.codes(), ["signature", "not-a-quote"]);
    let mut nonce = good.clone();
    nonce.nonce = Some(b"ai5M5SjYjnkyv4P7itH1".to_vec());
    assert_eq!(nonce.codes(), ["extra-data"]);
    let mut bank = good;
    bank.pcrs.as_mut().unwrap()[5] ^= 1;
    assert_eq!(bank.codes(), ["pcr-selection"]);
    // "verify with expected bank sha1": no selection of SHA-1 can be required at all.
    assert!("sha1:16".parse::<PcrSelection>().is_err());
}

#[test]
fn a_quote_with_sha1_is_refused_whatever_key_it_is_said_to_be_of() {
    let text = String::from_utf8(data("rust-keylime-test-quote.txt")).unwrap();
    let parts: Vec<Vec<u8>> = text.trim().strip_prefix('r').unwrap().split(':').map(base64).collect();
    let [message, signature, pcrs] = parts.as_slice() else { panic!("{} parts", parts.len()) };
    let files = Files {
        message: message.clone(),
        signature: signature.clone(),
        pcrs: Some(pcrs.clone()),
        nonce: Some(b"TEST".to_vec()),
        ..Files::of(KEYLIME)
    };
    let report = files.report();
    assert_eq!(files.codes(), ["signature", "pcr-selection"]);
    assert!(report.reasons[0].detail.contains("hash 0x0004"), "{:?}", report.reasons);
    assert_eq!(report.attest.unwrap().pcr_select[0].bank, "sha1");
}

#[test]
fn a_quote_of_a_tpm_1_2_is_refused_as_no_quote() {
    let vector: Value = serde_json::from_slice(&data("tpm12-quote.json")).unwrap();
    let field = |name: &str| base64(vector["Quote"][name].as_str().unwrap());
    let files = Files { message: field("Quote"), signature: field("Signature"), pcrs: None, ..Files::of(KEYLIME) };
    assert_eq!(files.codes(), ["signature", "not-a-quote"]);
    assert!(files.report().reasons[1].detail.contains("TPM 1.2"));
}

fn base64(text: &str) -> Vec<u8> {
    data_encoding::BASE64.decode(text.trim().as_bytes()).unwrap()
}

#[test]
fn quotes_that_tpm2_quote_wrote_hold_with_every_algorithm_key_form_and_pcr_form() {
    for (folder, banks) in [
        ("tpm2-tools/ecdsa-p256", "sha256:0,1,7,10"),
        ("tpm2-tools/ecdsa-p384", "sha256:0,10+sha384:0,7"),
        ("tpm2-tools/rsapss-2048", "sha256:0,10"),
        ("tpm2-tools/rsapss-3072", "sha256:0"),
        ("tpm2-tools/rsassa-sha384", "sha384:0,1,2,3,4,5,6,7,8"),
    ] {
        let tpm2b = data(&format!("{folder}/ak.tpm2b"));
        let keys = [data(&format!("{folder}/ak.pem")), tpm2b[2..].to_vec(), tpm2b];
        let forms = ["quote.pcrs", "quote.values"].map(|name| data(&format!("{folder}/{name}")));
        let mut reports = Vec::new();
        for ak in keys {
            for pcrs in &forms {
                let files = Files {
                    ak: ak.clone(),
                    pcrs: Some(pcrs.clone()),
                    nonce: Some(b"quotary inspect".to_vec()),
                    ..Files::of(folder)
                };
                assert_eq!(files.codes(), [""; 0], "{folder}");
                reports.push(files.report());
            }
        }
        assert!(reports.iter().all(|report| *report == reports[0]), "{folder}");
        let wanted: PcrSelection = banks.parse().unwrap();
        let told: usize = reports[0].pcrs.values().map(|bank| bank.len()).sum();
        assert_eq!(told, wanted.count(), "{folder}");
        if let Some(value) = reports[0].pcrs.get("sha256").and_then(|bank| bank.get(&10)) {
            assert_ne!(value, &"0".repeat(64), "{folder}: PCR 10 was extended");
        }
    }
}

#[test]
fn a_changed_byte_anywhere_in_message_or_signature_is_refused() {
    let good = Files::of("tpm2-tools/ecdsa-p256");
    for at in 0..good.message.len() {
        let mut bad = good.clone();
        bad.message[at] ^= 1;
        assert!(bad.codes().contains(&"signature"), "byte {at} of the message");
    }
    for at in 0..good.signature.len() {
        let mut bad = good.clone();
        bad.signature[at] ^= 1;
        assert!(bad.codes().contains(&"signature"), "byte {at} of the signature");
    }
}

#[test]
fn files_that_are_not_what_they_should_be_are_unreadable_and_no_verdict() {
    let good = Files::of(KEYLIME);
    let fails = |change: fn(&mut Files)| {
        let mut files = good.clone();
        change(&mut files);
        quote(&files.question()).unwrap_err()
    };
    assert!(matches!(fails(|f| f.ak = b"ssh-rsa AAAA".to_vec()), InspectError::Ak(_)));
    assert!(matches!(fails(|f| f.ak.truncate(200)), InspectError::Ak(_)));
    let certificate = fails(|f| f.ak = data("gce/pca_tpm_rsa_enc.pem"));
    assert!(certificate.to_string().contains("the PEM block is no PUBLIC KEY"), "{certificate}");
    assert!(matches!(fails(|f| f.ak.clear()), InspectError::Ak(_)));
    assert!(matches!(fails(|f| f.message.clear()), InspectError::Size { what: "the message", .. }));
    assert!(matches!(fails(|f| f.signature = vec![0; 4096]), InspectError::Size { what: "the signature", .. }));
    assert!(matches!(fails(|f| f.pcrs = Some(vec![])), InspectError::Size { what: "the PCR values", .. }));
    assert!(matches!(fails(|f| f.nonce = Some(vec![7; 67])), InspectError::Size { what: "the nonce", .. }));
    assert!(matches!(fails(|f| f.envelope = Some(vec![0xA0])), InspectError::EnvelopeNonce));
    let not_canonical = |f: &mut Files| (f.envelope, f.nonce) = (Some(vec![0xA0]), Some(vec![7; 32]));
    assert!(matches!(fails(not_canonical), InspectError::Envelope(_)));
}

#[test]
fn the_serialized_form_is_written_as_tpm2_quote_writes_it() {
    for (folder, selection) in [
        ("tpm2-tools/ecdsa-p256", "sha256:0,1,7,10"),
        ("tpm2-tools/ecdsa-p384", "sha256:0,10+sha384:0,7"),
        ("tpm2-tools/rsassa-sha384", "sha384:0,1,2,3,4,5,6,7,8"),
    ] {
        let selection: PcrSelection = selection.parse().unwrap();
        let supplied = SuppliedPcrs::read(&data(&format!("{folder}/quote.values")), &selection).unwrap();
        let written = serialize_pcrs(supplied.values(), &selection).unwrap();
        assert!(written == data(&format!("{folder}/quote.pcrs")), "{folder}");
        let mut swapped = supplied.values().to_vec();
        swapped.swap(0, 1);
        assert_eq!(serialize_pcrs(&swapped, &selection), None, "{folder}: not in the order of the selection");
        let mut long = supplied.values().to_vec();
        long[0].value = vec![0; 65];
        assert_eq!(serialize_pcrs(&long, &selection), None, "{folder}: no slot holds 65 bytes");
    }
}
