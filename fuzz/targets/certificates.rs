//! Certificates: what is split is all that there was, and whoever certifies an EK, it is the real leaf that is certified.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use quotary_common::id::Digest;
use quotary_common::limits::{CERTIFICATE_BYTES_MAX, EK_CHAIN_MAX};
use quotary_decide::attest::{
    Authority, ChainCertificate, EnrolmentClaim, TpmKind, TrustRoots, check_enrolment, split_der_certificates,
};
use quotary_decide::inspect::ek;

macro_rules! vector {
    ($name:literal) => {
        &include_bytes!(concat!("../../tests/data/attestation/", $name))[..]
    };
}

const NOW_S: i64 = 1_800_000_000;

/// EKs, and what their real certificate says.
static REAL: LazyLock<Vec<(&[u8], ChainCertificate)>> = LazyLock::new(|| {
    let eks = [
        (vector!("swtpm/p384/ek.public"), vector!("swtpm/p384/ek.der")),
        (vector!("swtpm/rsa2048/ek.public"), vector!("swtpm/rsa2048/ek.der")),
    ];
    eks.map(|(public, leaf)| {
        let certificates = [leaf.to_vec(), vector!("swtpm/issuer.der").to_vec()];
        let checked = check_enrolment(&claim(public, &certificates), &ROOTS, NOW_S).expect("a real enrolment");
        (public, checked.certified_by().expect("certified").chain[0].clone())
    })
    .to_vec()
});

static ROOTS: LazyLock<TrustRoots> = LazyLock::new(|| {
    let certificates = [vector!("swtpm/root.der"), vector!("gce/pca_root.der")];
    let authority = |der: &[u8]| Authority { certificate: der.to_vec(), kind: TpmKind::Software };
    TrustRoots::new(certificates.map(authority).to_vec()).expect("real authorities")
});

fn claim<'a>(ek_public: &'a [u8], ek_certificates: &'a [Vec<u8>]) -> EnrolmentClaim<'a> {
    let ak_public = vector!("swtpm/p384/ak.public");
    EnrolmentClaim { ek_public, ek_certificates, ak_public, claimed_host: None, tls_key: Digest::of(&[b"t"]) }
}

fuzz_target!(|data: &[u8]| {
    // Text goes the way of files; it is slow, since it brings the manufacturers' bundle along.
    if data.starts_with(b"-----BEGIN ") {
        if let Ok(report) = ek(&[data], Some(vector!("gce/pca_root.der")), NOW_S as u64 * 1000) {
            assert_eq!((report.verified, report.verified), (report.reasons.is_empty(), report.tpm.is_some()));
            assert!(report.chain.len() <= EK_CHAIN_MAX + 2);
        }
        return;
    }
    let mut certificates = Vec::new();
    if let Ok(split) = split_der_certificates(data) {
        check_split(data, &split);
        certificates = split.iter().map(|certificate| certificate.to_vec()).collect();
    } else {
        certificates.push(data.to_vec());
    }
    certificates.push(vector!("swtpm/issuer.der").to_vec());
    for authority in &certificates {
        let authority = Authority { certificate: authority.clone(), kind: TpmKind::Software };
        if let Ok(roots) = TrustRoots::new(vec![authority]) {
            assert_ne!(roots, TrustRoots::default());
        }
    }
    for (public, real) in REAL.iter() {
        let Ok(checked) = check_enrolment(&claim(public, &certificates), &ROOTS, NOW_S) else { continue };
        let Some(by) = checked.certified_by() else { continue };
        assert!((2..=EK_CHAIN_MAX + 2).contains(&by.chain.len()));
        assert!(by.chain.iter().rev().skip(1).all(|certificate| !certificate.authority));
        // The bytes between the signed parts are not signed: the reader may take another form of them.
        let same = ChainCertificate { sha256: real.sha256, ..by.chain[0].clone() };
        assert_eq!(same, *real, "a certificate that nobody signed");
    }
});

/// Certificates in order, with nothing but padding round them.
fn check_split(data: &[u8], split: &[&[u8]]) {
    assert!(split.len() <= EK_CHAIN_MAX);
    let mut at = 0;
    let mut padding = Vec::new();
    for certificate in split {
        assert!(certificate.len() <= CERTIFICATE_BYTES_MAX && certificate[0] == 0x30);
        let start = certificate.as_ptr() as usize - data.as_ptr() as usize;
        padding.extend_from_slice(&data[at..start]);
        at = start + certificate.len();
        assert_eq!(&data[start..at], *certificate);
    }
    padding.extend_from_slice(&data[at..]);
    assert!(padding.iter().all(|byte| [0, 0xFF].contains(byte)));
}
