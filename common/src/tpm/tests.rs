//! Tests of the readers and of the signature checks, on structures of real software TPMs.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

use super::*;

fn data(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/attestation").join(path)).unwrap()
}

/// Body of a PEM file.
fn pem(path: &str) -> Vec<u8> {
    let text = String::from_utf8(data(path)).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    data_encoding::BASE64.decode(body.as_bytes()).unwrap()
}

/// `TPMT_PUBLIC` of a restricted signing key on P-256.
fn ecc_public(scheme: [u8; 4], x: &[u8], y: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0x23, 0, 0x0B, 0, 5, 0, 0x72, 0, 0, 0, 0x10];
    out.extend_from_slice(&scheme);
    out.extend_from_slice(&[0, 3, 0, 0x10]);
    for coordinate in [x, y] {
        out.extend_from_slice(&u16::try_from(coordinate.len()).unwrap().to_be_bytes());
        out.extend_from_slice(coordinate);
    }
    out
}

/// `TPMT_PUBLIC` of a restricted RSA signing key.
fn rsa_public(scheme: [u8; 4], bits: u16, exponent: u32, modulus: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 1, 0, 0x0B, 0, 5, 0, 0x72, 0, 0, 0, 0x10];
    out.extend_from_slice(&scheme);
    out.extend_from_slice(&bits.to_be_bytes());
    out.extend_from_slice(&exponent.to_be_bytes());
    out.extend_from_slice(&u16::try_from(modulus.len()).unwrap().to_be_bytes());
    out.extend_from_slice(modulus);
    out
}

fn ecdsa_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0x18, 0, 0x0B];
    for coordinate in [r, s] {
        out.extend_from_slice(&u16::try_from(coordinate.len()).unwrap().to_be_bytes());
        out.extend_from_slice(coordinate);
    }
    out
}

fn keylime_key() -> TpmPublic {
    // The modulus of an RSA-2048 SubjectPublicKeyInfo ends 5 bytes (the exponent's element) before its end.
    let spki = pem("keylime-rsa2048-sha256/ak.pem");
    let modulus = &spki[spki.len() - 5 - 256..spki.len() - 5];
    let public = TpmPublic::parse(&rsa_public([0, 0x14, 0, 0x0B], 2048, 0, modulus)).unwrap();
    assert_eq!(public.spki_der(), spki, "the encoding is the canonical one that others write");
    public
}

#[test]
fn a_quote_of_a_real_tpm_reads_and_its_signature_holds() {
    let (attest, signature) = (data("keylime-rsa2048-sha256/quote.msg"), data("keylime-rsa2048-sha256/quote.sig"));
    let quote = Quote::parse(&attest).unwrap();
    assert_eq!(quote.extra_data, b"Ai5M5SjYjnkyv4P7itH1");
    let clock = ClockInfo { clock_ms: 1_284_787_942, reset_count: 3, restart_count: 0, safe: true };
    assert_eq!((quote.clock, quote.firmware_version), (clock, 0x2019_1023_0016_3636));
    assert_eq!(quote.selection.to_string(), "sha256:16");
    let key = AkKey::from_public(&keylime_key()).unwrap();
    key.verify(&attest, &signature).unwrap();
    let mut forged = attest.clone();
    forged[5] ^= 1;
    assert_eq!(key.verify(&forged, &signature), Err(SignatureFault::Wrong));
}

#[test]
fn keys_in_the_endorsement_hierarchy_show_in_the_qualified_signer_and_others_do_not() {
    for folder in ["swtpm/p384", "swtpm/rsa2048"] {
        let read = |name: &str| data(&format!("{folder}/{name}"));
        let ek = TpmPublic::parse(&read("ek.public")).unwrap().name();
        for (ak, quote, in_endorsement) in [("ak", "quote", true), ("owner-ak", "owner-quote", false)] {
            let ak = TpmPublic::parse(&read(&format!("{ak}.public"))).unwrap();
            let attest = read(&format!("{quote}.msg"));
            AkKey::from_public(&ak).unwrap().verify(&attest, &read(&format!("{quote}.sig"))).unwrap();
            let signer = qualified_signer(&ek, &ak.name());
            assert_eq!(
                Quote::parse(&attest).unwrap().qualified_signer == signer.as_bytes(),
                in_endorsement,
                "{folder} {quote}"
            );
        }
    }
}

#[test]
fn a_trailing_or_missing_byte_is_refused_everywhere() {
    let structures = [data("swtpm/p384/quote.msg"), data("swtpm/p384/quote.sig"), data("swtpm/p384/ek.public")];
    let reads = |which: usize, bytes: &[u8]| match which {
        0 => Quote::parse(bytes).is_ok(),
        1 => Signature::parse(bytes).is_ok(),
        _ => TpmPublic::parse(bytes).is_ok(),
    };
    for (which, good) in structures.iter().enumerate() {
        assert!(reads(which, good));
        let longer = [good.as_slice(), &[0]].concat();
        assert!(!reads(which, &longer), "trailing byte in structure {which}");
        for length in 0..good.len() {
            assert!(!reads(which, &good[..length]), "{length} bytes of structure {which}");
        }
    }
    assert!(matches!(Quote::parse(&[0; 1025]), Err(TpmError::TooLarge { .. })));
}

#[test]
fn what_no_tpm_generated_and_what_is_no_quote_does_not_read() {
    let good = data("swtpm/p384/quote.msg");
    for (at, value, what) in [(3, 0x46, "magic"), (5, 0x17, "certify"), (5, 0x19, "time"), (4, 0, "type")] {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(matches!(Quote::parse(&bad), Err(TpmError::Form { offset: 4 | 6, .. })), "{what}");
    }
}

#[test]
fn short_coordinates_are_padded_and_long_ones_refused() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let key = AkKey::from_public_bytes(&ecc_public([0, 0x18, 0, 0x0B], x, y)).unwrap();
    let mut short = 0;
    for i in 0..2000_u32 {
        let message = i.to_be_bytes();
        let signature = pair.sign(&random, &message).unwrap();
        let (r, s) = signature.as_ref().split_at(32);
        key.verify(&message, &ecdsa_signature(r, s)).unwrap();
        if r[0] == 0 || s[0] == 0 {
            let strip = |n: &'_ [u8]| n.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
            key.verify(&message, &ecdsa_signature(&strip(r), &strip(s))).unwrap();
            short += 1;
        }
        let long = [&[0], r].concat();
        assert_eq!(key.verify(&message, &ecdsa_signature(&long, s)), Err(SignatureFault::Coordinate));
        if short > 2 {
            break;
        }
    }
    assert!(short > 0, "no short coordinate came in 2000 signatures");
    assert_eq!(key.verify(b"", &ecdsa_signature(&[], &[])), Err(SignatureFault::Wrong));
    assert!(matches!(key.verify(b"", &ecdsa_signature(&[1; 49], &[1])), Err(SignatureFault::Form(_))));
}

#[test]
fn a_signature_of_another_algorithm_or_hash_than_the_keys_is_refused() {
    let rsa = AkKey::from_public(&keylime_key()).unwrap();
    let ecc = AkKey::from_public_bytes(&data("swtpm/p384/ak.public")).unwrap();
    let (attest, ecdsa) = (data("swtpm/p384/quote.msg"), data("swtpm/p384/quote.sig"));
    let ssa = data("keylime-rsa2048-sha256/quote.sig");
    assert_eq!(rsa.verify(&attest, &ecdsa), Err(SignatureFault::Algorithm));
    assert_eq!(ecc.verify(&attest, &ssa), Err(SignatureFault::Algorithm));
    for (key, good) in [(&rsa, &ssa), (&ecc, &ecdsa)] {
        let with = |at: usize, value: u8| {
            let mut bad = good.clone();
            bad[at] = value;
            bad
        };
        assert_eq!(key.verify(&attest, &with(3, 0x0C)), Err(SignatureFault::Algorithm), "SHA-384");
        assert!(matches!(key.verify(&attest, &with(3, 0x04)), Err(SignatureFault::Form(_))), "SHA-1");
        assert!(matches!(key.verify(&attest, &with(1, 0x1C)), Err(SignatureFault::Form(_))), "ECSCHNORR");
    }
    let mut pss = [&[0, 0x16], &ssa[2..]].concat();
    assert_eq!(rsa.verify(&attest, &pss), Err(SignatureFault::Algorithm));
    let pss_key = AkKey::from_key(keylime_key().key(), Scheme::RsaPss(HashAlg::Sha256)).unwrap();
    assert_eq!(pss_key.verify(&attest, &pss), Err(SignatureFault::Wrong));
    pss[3] = 0x0C;
    assert_eq!(pss_key.verify(&attest, &pss), Err(SignatureFault::Algorithm), "RSAPSS with SHA-384");
}

#[test]
fn a_bare_key_takes_the_scheme_of_its_signature_and_no_other_pair() {
    let public = TpmPublic::parse(&data("swtpm/p384/ak.public")).unwrap();
    let (attest, signature) = (data("swtpm/p384/quote.msg"), data("swtpm/p384/quote.sig"));
    let scheme = Signature::parse(&signature).unwrap().scheme();
    assert_eq!(scheme, public.scheme());
    AkKey::from_key(public.key(), scheme).unwrap().verify(&attest, &signature).unwrap();
    for other in
        [Scheme::Ecdsa(HashAlg::Sha384), Scheme::RsaSsa(HashAlg::Sha256), Scheme::RsaPss(HashAlg::Sha256), Scheme::Null]
    {
        assert!(AkKey::from_key(public.key(), other).is_err(), "{other:?}");
    }
    let rsa = keylime_key();
    assert!(AkKey::from_key(rsa.key(), Scheme::Ecdsa(HashAlg::Sha256)).is_err());
    let signature = data("keylime-rsa2048-sha256/quote.sig");
    assert_eq!(Signature::parse(&signature).unwrap().scheme(), Scheme::RsaSsa(HashAlg::Sha256));
    let pss = [&[0, 0x16], &signature[2..]].concat();
    assert_eq!(Signature::parse(&pss).unwrap().scheme(), Scheme::RsaPss(HashAlg::Sha256));
}

#[test]
fn only_keys_with_a_fixed_and_strong_scheme_are_prepared() {
    let (x, y) = ([7; 32], [9; 32]);
    let prepare = |bytes: Vec<u8>| AkKey::from_public_bytes(&bytes);
    assert!(prepare(ecc_public([0, 0x18, 0, 0x0B], &x, &y)).is_ok());
    assert!(prepare(ecc_public([0, 0x18, 0, 0x0C], &x, &y)).is_err(), "P-256 with SHA-384");
    assert!(prepare(ecc_public([0, 0x18, 0, 0x04], &x, &y)).is_err(), "SHA-1");
    assert!(prepare(ecc_public([0, 0x14, 0, 0x0B], &x, &y)).is_err(), "RSASSA on a curve");
    assert!(prepare(ecc_public([0, 0x19, 0, 0x0B], &x, &y)).is_err(), "ECDH");
    let modulus = |bytes: usize| [vec![0x80], vec![1; bytes - 1]].concat();
    assert!(prepare(rsa_public([0, 0x14, 0, 0x0B], 2048, 0, &modulus(256))).is_ok());
    assert!(prepare(rsa_public([0, 0x16, 0, 0x0B], 3072, 0, &modulus(384))).is_ok());
    assert!(prepare(rsa_public([0, 0x18, 0, 0x0B], 2048, 0, &modulus(256))).is_err(), "ECDSA with RSA");
    assert!(prepare(rsa_public([0, 0x14, 0, 0x0B], 1024, 0, &modulus(128))).is_err(), "1024 bits");
    assert!(prepare(rsa_public([0, 0x14, 0, 0x0B], 2048, 0, &modulus(255))).is_err(), "shorter than it says");
    let low = [vec![0x7F], vec![1; 255]].concat();
    assert!(prepare(rsa_public([0, 0x14, 0, 0x0B], 2048, 0, &low)).is_err(), "2047 bits");
    let mut even = modulus(256);
    even[255] = 2;
    assert!(prepare(rsa_public([0, 0x14, 0, 0x0B], 2048, 0, &even)).is_err(), "an even modulus");
}

#[test]
fn the_schemes_that_sign_no_quote_read_with_all_their_fields() {
    let scheme = |scheme: &[u8]| {
        let mut bytes = ecc_public([0, 0x18, 0, 0x0B], &[7; 32], &[9; 32]);
        bytes.splice(12..16, scheme.iter().copied());
        TpmPublic::parse(&bytes).map(|public| public.scheme())
    };
    assert_eq!(scheme(&[0, 0x19, 0, 0x0B]), Ok(Scheme::Other(0x19)), "ECDH has a hash");
    assert_eq!(scheme(&[0, 0x1A, 0, 0x0B, 0, 1]), Ok(Scheme::Other(0x1A)), "ECDAA has a hash and a count");
    assert!(scheme(&[0, 0x1A, 0, 0x0B]).is_err());
    assert_eq!((scheme(&[0, 0x15]), scheme(&[0, 0x10])), (Ok(Scheme::Other(0x15)), Ok(Scheme::Null)));
}

#[test]
fn what_is_logged_of_names_and_keys_tells_them_apart() {
    let public = TpmPublic::parse(&ecc_public([0, 0x18, 0, 0x0B], &[7; 32], &[9; 32])).unwrap();
    let name = format!("{:?}", public.name());
    assert_eq!(name, data_encoding::HEXLOWER.encode(public.name().as_bytes()));
    assert_eq!(format!("{:?}", AkKey::from_public(&public).unwrap()), "AkKey(Ecdsa(Sha256))");
}

#[test]
fn a_key_has_one_subject_public_key_info_whether_its_coordinates_are_short_or_not() {
    let short = TpmPublic::parse(&ecc_public([0, 0x18, 0, 0x0B], &[5; 31], &[6; 32])).unwrap();
    let padded = TpmPublic::parse(&ecc_public([0, 0x18, 0, 0x0B], &[&[0][..], &[5; 31]].concat(), &[6; 32])).unwrap();
    assert_eq!(short.spki_der(), padded.spki_der());
    assert_eq!(short.spki_der().len(), 91);
    assert_ne!(short.name(), padded.name(), "a name covers the bytes as they are");
}

fn bytes_near(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (Just(good), edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(mut bytes, edits, cut, shorten)| {
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    })
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..1100),
        bytes_near(data("swtpm/p384/quote.msg")),
        bytes_near(data("keylime-rsa2048-sha256/quote.sig")),
        bytes_near(data("swtpm/p384/ek.public")),
        bytes_near(data("swtpm/rsa2048/ek.public")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn readers_are_total_and_what_reads_stays_in_its_bounds(bytes in hostile()) {
        if let Ok(quote) = Quote::parse(&bytes) {
            prop_assert!(quote.selection.count() <= 16 * 24 && quote.extra_data.len() <= 66);
        }
        if let Ok(public) = TpmPublic::parse(&bytes) {
            prop_assert_eq!(public.bytes(), &bytes[..]);
            prop_assert_eq!(public.name().as_bytes().len(), 2 + public.name_alg().length());
            prop_assert_eq!(public.spki_der()[0], 0x30);
        }
        if let Ok(key) = AkKey::from_public_bytes(&bytes) {
            prop_assert!(key.verify(&bytes, &data("swtpm/p384/quote.sig")).is_err());
        }
        let _ = Signature::parse(&bytes);
    }
}
