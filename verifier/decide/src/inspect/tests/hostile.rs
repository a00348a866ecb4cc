//! The verbs are total: no bytes panic, and what is told stays bounded.

use proptest::prelude::*;

use super::*;
use crate::inspect::{SuppliedPcrs, ek, envelope};

/// A good file with some bytes changed or cut, or anything.
fn near(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let edited = (Just(good), edits, any::<prop::sample::Index>(), any::<bool>());
    let edited = edited.prop_map(|(mut bytes, edits, cut, shorten)| {
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    });
    prop_oneof![4 => edited, 1 => prop::collection::vec(any::<u8>(), 0..1500)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_quotes_report_is_total_and_bounded(
        ak in near(data("tpm2-tools/ecdsa-p256/ak.tpm2b")),
        message in near(data("tpm2-tools/ecdsa-p256/quote.msg")),
        signature in near(data("tpm2-tools/ecdsa-p256/quote.sig")),
        pcrs in near(data("tpm2-tools/ecdsa-p256/quote.pcrs")),
    ) {
        let files = Files { ak, message, signature, pcrs: Some(pcrs), nonce: None, envelope: None };
        if let Ok(report) = quote(&files.question()) {
            prop_assert_eq!(report.verified, report.reasons.is_empty());
            prop_assert!(report.reasons.len() <= 4 && report.reasons.iter().all(|reason| reason.detail.len() <= 512));
        }
    }

    #[test]
    fn supplied_pcrs_read_totally_and_never_more_than_there_are(
        pcrs in near(data("tpm2-tools/rsassa-sha384/quote.pcrs")),
    ) {
        if let Ok(read) = SuppliedPcrs::read(&pcrs, &"sha256:0,1+sha384:4".parse().unwrap()) {
            prop_assert!(read.values().iter().map(|value| value.value.len()).sum::<usize>() <= pcrs.len());
        }
    }

    #[test]
    fn an_envelopes_report_is_total(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(envelope(&bytes).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_certificates_report_is_total_and_bounded(
        leaf in near(data("gce/pca_tpm_rsa_enc.der")),
        issuer in near(data("gce/pca_intermediate.der")),
    ) {
        if let Ok(report) = ek(&[&leaf, &issuer], Some(&data("gce/pca_root.der")), 1_800_000_000_000) {
            prop_assert!(report.chain.len() <= 4 && report.reasons.len() <= 1);
        }
    }
}
