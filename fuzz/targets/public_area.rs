//! `TPMT_PUBLIC`: what parses keeps its bytes, its name is their digest, its SubjectPublicKeyInfo holds its key, and an
//! enrolment by it ends in a value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quotary_common::id::{Digest, HostId};
use quotary_common::limits::TPM_PUBLIC_BYTES_MAX;
use quotary_common::tpm::{AkKey, Attributes, KeyParameters, TpmPublic};
use quotary_decide::attest::{EnrolmentClaim, TrustRoots, check_enrolment, make_credential};
use ring::rand::SystemRandom;

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/data/attestation/swtpm/p384/", $name))
    };
}

fuzz_target!(|data: &[u8]| {
    let Ok(public) = TpmPublic::parse(data) else { return };
    assert!(data.len() <= TPM_PUBLIC_BYTES_MAX);
    assert_eq!(public.bytes(), data);
    assert_eq!(data[4..8], public.attributes().0.to_be_bytes());
    let name = [&public.name_alg().id().to_be_bytes()[..], public.name_alg().digest([data]).as_ref()].concat();
    assert_eq!(public.name().as_bytes(), name);
    check_key(&public, data);
    if let Ok(key) = AkKey::from_public(&public) {
        let held = key.verify(vector!("quote.msg"), vector!("quote.sig")).is_ok();
        let real = TpmPublic::parse(vector!("ak.public")).expect("a real key");
        assert!(!held || public.key() == real.key(), "another key than the real one verifies");
    }
    enrol(&public);
});

/// The key is of the size that it says, and stands whole in the SubjectPublicKeyInfo.
fn check_key(public: &TpmPublic, data: &[u8]) {
    let spki = public.spki_der();
    let has = |part: &[u8]| spki.windows(part.len()).any(|window| window == part);
    match public.key() {
        KeyParameters::Rsa { bits, exponent, modulus } => {
            assert_eq!(modulus.len() * 8, usize::from(*bits));
            assert!(modulus[0] >= 0x80 && modulus[modulus.len() - 1] & 1 == 1 && *exponent > 0);
            assert!(data.ends_with(modulus) && has(modulus));
        }
        KeyParameters::Ecc { curve, point } => {
            assert_eq!(point.len(), 1 + 2 * curve.coordinate_bytes());
            assert!(point[0] == 4 && has(point));
        }
    }
    // `SEQUENCE` over all of it.
    let content = match spki[..] {
        [0x30, short @ 0..=0x7F, ..] => usize::from(short) + 2,
        [0x30, 0x81, a, ..] => usize::from(a) + 3,
        [0x30, 0x82, a, b, ..] => usize::from(u16::from_be_bytes([a, b])) + 4,
        _ => panic!("no SEQUENCE"),
    };
    assert_eq!(content, spki.len());
}

/// The key as EK and as AK. Neither may do what the other must, so both are never accepted.
fn enrol(public: &TpmPublic) {
    let tls_key = Digest::of(&[b"t"]);
    let claim = |ek_public, ak_public| {
        let claim = EnrolmentClaim { ek_public, ek_certificates: &[], ak_public, claimed_host: None, tls_key };
        check_enrolment(&claim, &TrustRoots::default(), 1_800_000_000)
    };
    let as_ek = claim(public.bytes(), vector!("ak.public"));
    if let Ok(checked) = &as_ek {
        assert_eq!(checked.host_id(), HostId::of(&[&public.spki_der()]));
        assert!(public.attributes().has(Attributes::RESTRICTED | Attributes::DECRYPT | Attributes::FIXED_TPM));
        assert!(checked.certified_by().is_none());
        if let Ok(credential) = make_credential(public, checked.ak_name(), &[7; 32], &SystemRandom::new()) {
            assert!(!credential.id_object.is_empty() && credential.encrypted_secret.len() <= 600);
        }
    }
    let as_ak = claim(vector!("ek.public"), public.bytes());
    if as_ak.is_ok() {
        assert!(public.attributes().has(Attributes::RESTRICTED | Attributes::SIGN | Attributes::FIXED_TPM));
        assert!(as_ek.is_err(), "one key serves as EK and as AK");
    }
}
