//! `inspect ek` on certificates of clouds and software TPMs.

use super::*;
use crate::attest::tests::authority::NOW_S;
use crate::inspect::{EkReport, InspectError, TpmReport, ek};

fn now_ms() -> u64 {
    u64::try_from(NOW_S).unwrap() * 1000
}

fn judge(certificates: &[&str], root: Option<&str>) -> EkReport {
    let files: Vec<Vec<u8>> = certificates.iter().map(|name| data(name)).collect();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let root = root.map(data);
    let report = ek(&files, root.as_deref(), now_ms()).unwrap();
    assert_eq!(report.verified, report.reasons.is_empty() && report.tpm.is_some());
    report
}

#[test]
fn a_clouds_ek_certificate_holds_under_the_given_root_in_pem_or_der() {
    for leaf in ["gce/pca_tpm_rsa_enc.der", "gce/pca_tpm_rsa_enc.pem", "gce/pca_tpm_ecc_enc.der"] {
        let report = judge(&[leaf, "gce/pca_intermediate.der"], Some("gce/pca_root.der"));
        assert_eq!(codes(&report.reasons), [""; 0], "{leaf}");
        assert_eq!(report.chain.len(), 3);
        assert!(report.chain[2].authority && report.chain[2].subject.contains("EK/AK CA Root"));
        assert!(matches!(report.tpm, Some(TpmReport::Given { .. })), "nobody said that it is hardware");
    }
    let report = judge(&["gce/uca_tpm_ecc_enc.der", "gce/uca_intermediate.der"], Some("gce/uca_root.der"));
    assert!(report.verified, "{:?}", report.reasons);
}

#[test]
fn a20_an_ak_certificate_is_no_ek_certificate_whatever_usage_it_carries() {
    for (leaf, kind) in [
        ("uca_tpm_rsa_sign", "uca"),
        ("uca_tpm_ecc_sign", "uca"),
        ("pca_tpm_rsa_sign", "pca"),
        ("pca_tpm_ecc_sign", "pca"),
    ] {
        let (leaf, issuer) = (format!("gce/{leaf}.der"), format!("gce/{kind}_intermediate.der"));
        let report = judge(&[&leaf, &issuer], Some(&format!("gce/{kind}_root.der")));
        assert_eq!(codes(&report.reasons), ["ek-chain"], "{leaf}");
    }
}

#[test]
fn a20_an_issuing_ca_with_the_ek_usage_is_no_endorsement_key() {
    for ca in ["gce/uca_intermediate.der", "gce/pca_intermediate.der"] {
        let report = judge(&[ca], Some("gce/uca_root.der"));
        assert_eq!(codes(&report.reasons), ["ek-chain"], "{ca}");
        assert!(report.reasons[0].detail.contains("CA"), "{:?}", report.reasons);
    }
}

#[test]
fn a_chain_without_its_root_or_its_intermediate_is_refused_and_says_where_it_ends() {
    let built_in = judge(&["gce/pca_tpm_rsa_enc.der", "gce/pca_intermediate.der"], None);
    assert_eq!(codes(&built_in.reasons), ["ek-chain"]);
    assert!(built_in.reasons[0].detail.contains("EK/AK CA Root"), "{:?}", built_in.reasons);
    assert_eq!(built_in.chain.len(), 2, "as much as holds is told");
    let missing = judge(&["gce/pca_tpm_rsa_enc.der"], Some("gce/pca_root.der"));
    assert!(missing.reasons[0].detail.contains("EK/AK CA Intermediate"), "{:?}", missing.reasons);
}

#[test]
fn several_certificates_in_one_file_are_a_chain() {
    let joined = [data("swtpm/p384/ek.der"), vec![0xFF; 64], data("swtpm/issuer.der"), vec![0; 300]].concat();
    let report = ek(&[&joined], Some(&data("swtpm/root.der")), now_ms()).unwrap();
    assert!(report.verified && report.chain.len() == 3, "{report:?}");
    let long_after = ek(&[&joined], Some(&data("swtpm/root.der")), u64::MAX).unwrap();
    assert_eq!(codes(&long_after.reasons), ["ek-chain"]);
}

#[test]
fn files_that_are_no_certificates_are_unreadable() {
    let root = data("swtpm/root.der");
    let fails = |files: &[&[u8]], roots: Option<&[u8]>| ek(files, roots, now_ms()).unwrap_err();
    for (files, roots) in [
        (vec![], None),
        (vec![&b""[..]], None),
        (vec![&b"text"[..]], None),
        (vec![&b"-----BEGIN CERTIFICATE-----\n"[..]], None),
        (vec![&root[..root.len() - 1]], None),
        (vec![root.as_slice()], Some(&b"text"[..])),
        (vec![root.as_slice(); 10], None),
    ] {
        assert!(matches!(fails(&files, roots), InspectError::Certificate { .. }));
    }
    // A frame without a certificate in it is one all the same, so the verdict says it.
    let report = ek(&[&[0x30, 1, 5]], None, now_ms()).unwrap();
    assert_eq!(codes(&report.reasons), ["malformed"]);
}
