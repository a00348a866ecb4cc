//! Chains at their bounds: the second of an end, the last CA that is allowed, the last byte of a bundle, and which of
//! several faults is told.

use super::super::chain::{
    ChainFault, ChainQuestion, Examination, examine, from_spki_der, pem_blocks, split_der_certificates,
};
use super::super::{Authority, ManufacturerRoots, TpmKind, TrustRoots};
use super::authority::*;
use super::data;
use super::software_tpm::Pair;

fn roots(certificates: Vec<Vec<u8>>) -> TrustRoots {
    let authority = |certificate| Authority { certificate, kind: TpmKind::Hardware };
    TrustRoots::new(certificates.into_iter().map(authority).collect()).unwrap()
}

fn examined(leaf: &[u8], issuers: &[&[u8]], roots: &TrustRoots, now_unix_s: i64) -> Examination {
    examine(&ChainQuestion { leaf, issuers, ek: None, now_unix_s }, roots)
}

/// The fault's code, or nothing.
fn code(leaf: &[u8], roots: &TrustRoots) -> Option<&'static str> {
    examined(leaf, &[], roots, NOW_S).outcome.err().map(|fault| fault.code())
}

fn pem(certificates: &[Vec<u8>]) -> String {
    let block = |der: &Vec<u8>| {
        let body = data_encoding::BASE64.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    certificates.iter().map(block).collect()
}

#[test]
fn a_certificate_holds_from_its_first_second_to_its_last() {
    let root = CertificateAuthority::new("root");
    let leaf = root.sign(&Draft::leaf(p256_spki(Pair::new().point())));
    let roots = roots(vec![root.self_signed()]);
    // 2026-01-01 and 2036-01-01.
    let (first, last) = (1_767_225_600, 2_082_758_400);
    for (at, holds) in [(first - 1, false), (first, true), (last, true), (last + 1, false)] {
        assert_eq!(examined(&leaf, &[], &roots, at).outcome.is_ok(), holds, "{at}");
    }
}

#[test]
fn eight_cas_may_stand_below_an_authority_wherever_they_are_known_from() {
    const NAMES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    for (below, holds) in [(8, true), (9, false)] {
        let cas: Vec<_> = NAMES[..=below].iter().map(|name| CertificateAuthority::new(name)).collect();
        let issued: Vec<Vec<u8>> = cas.windows(2).map(|pair| pair[0].sign(&pair[1].draft())).collect();
        let bundle = ManufacturerRoots::from_pem(b"", pem(&issued).as_bytes()).unwrap();
        let roots = roots(vec![cas[0].self_signed()]).with_intermediates_of(&bundle);
        let leaf = cas[below].sign(&Draft::leaf(p256_spki(Pair::new().point())));
        let outcome = examined(&leaf, &[], &roots, NOW_S).outcome;
        assert_eq!(outcome.is_ok(), holds, "{below}: {outcome:?}");
    }
}

#[test]
fn a_signature_whose_key_is_of_another_kind_or_curve_is_told_as_such() {
    let patched = |name: &str, from: &[u8], to: u8| {
        let mut root = data(&format!("ek-algorithms/{name}-root.der"));
        let at = root.windows(from.len()).rposition(|window| window == from).unwrap();
        root[at + from.len() - 1] = to;
        code(&data(&format!("ek-algorithms/{name}-leaf.der")), &roots(vec![root]))
    };
    // id-RSAES-OAEP in place of rsaEncryption: such a key encrypts.
    assert_eq!(patched("rsassa-sha256", &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1], 7), Some("ek-chain"));
    for name in ["ecdsa-p384", "ecdsa-p384-sha256"] {
        assert_eq!(patched(name, &[0x2B, 0x81, 4, 0, 34], 34), None, "{name} as it is");
        assert_eq!(patched(name, &[0x2B, 0x81, 4, 0, 34], 35), Some("ek-algorithm"), "{name} said to be on P-521");
    }
    let p256 = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
    assert_eq!(patched("ecdsa-p256-sha384", p256, 1), Some("ek-algorithm"), "said to be on P-192");
    let root = CertificateAuthority::new("root");
    let leaf = root.sign(&Draft::leaf(p256_spki(Pair::new().point())));
    let mut certificate = root.self_signed();
    let at = certificate.windows(8).rposition(|window| window == p256).unwrap();
    certificate[at + 7] = 1;
    assert_eq!(code(&leaf, &roots(vec![certificate])), Some("ek-algorithm"));
    assert_eq!(
        code(
            &data("ek-algorithms/ecdsa-p521-sha256-leaf.der"),
            &roots(vec![data("ek-algorithms/ecdsa-p521-sha256-root.der")])
        ),
        Some("ek-algorithm")
    );
}

#[test]
fn a_weak_algorithm_is_told_where_only_one_of_the_two_places_names_it() {
    let root = CertificateAuthority::new("root");
    let good = root.sign(&Draft::leaf(p256_spki(Pair::new().point())));
    // The last of the two: ecdsa-with-SHA1 is one byte shorter, so the rest moves up and both lengths shrink.
    let strong = [0x30, 0x0A, 6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
    let at = good.windows(12).rposition(|window| window == strong).unwrap();
    let weak = tlv(0x30, &tlv(6, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 1]));
    let leaf = tlv(0x30, &[&good[4..at], &weak, &good[at + 12..]].concat());
    let fault = examined(&leaf, &[], &roots(vec![root.self_signed()]), NOW_S).outcome.unwrap_err();
    assert!(fault.to_string().contains("SHA-1"), "{fault}");
}

#[test]
fn of_several_faults_the_one_that_could_be_mended_is_told() {
    let leaf = data("ek-algorithms/ecdsa-p521-sha256-leaf.der");
    let unsupported = data("ek-algorithms/ecdsa-p521-sha256-root.der");
    let namesake = CertificateAuthority::new("ecdsa-p521-sha256").self_signed();
    assert_eq!(code(&leaf, &roots(vec![namesake.clone()])), Some("ek-chain"));
    for roots in [vec![unsupported.clone(), namesake.clone()], vec![namesake, unsupported]] {
        assert_eq!(code(&leaf, &self::roots(roots)), Some("ek-algorithm"));
    }
}

#[test]
fn what_is_told_of_a_certificate_names_its_key() {
    let chain = |name: &str| {
        let read = |which: &str| data(&format!("ek-algorithms/{name}-{which}.der"));
        examined(&read("leaf"), &[], &roots(vec![read("root")]), NOW_S).chain
    };
    assert_eq!(chain("rsassa-sha256").iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["ecc-p256", "rsa-2048"]);
    assert_eq!(chain("ecdsa-p384")[1].key, "ecc-p384");
    let mut other = CertificateAuthority::new("root").draft();
    other.spki = p256_spki(&[4; 33]);
    let leaf = CertificateAuthority::new("root").sign(&other);
    assert_eq!(examined(&leaf, &[], &TrustRoots::default(), NOW_S).chain[0].key, "other");
}

#[test]
fn keys_at_their_bounds_read_and_beyond_them_do_not() {
    let rsa = |modulus: &[u8], exponent: &[u8]| {
        let key = tlv(0x30, &[tlv(2, modulus), tlv(2, exponent)].concat());
        let algorithm = tlv(0x30, &[6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1, 5, 0]);
        from_spki_der(&tlv(0x30, &[algorithm, tlv(3, &[vec![0], key].concat())].concat()))
    };
    let modulus = |first: &[u8]| [first, &[0xC5; 255]].concat();
    assert!(rsa(&modulus(&[0, 0x80]), &[1, 0, 1]).is_ok());
    assert!(rsa(&modulus(&[0, 0xFF]), &[0x7F, 0, 0, 1]).is_ok(), "an exponent of four bytes");
    assert_eq!(rsa(&modulus(&[0x7F]), &[1, 0, 1]), Err("an RSA modulus that is too short or even"), "2047 bits");
    let on_curve = |curve: &[u8], bytes: usize| {
        let algorithm = tlv(0x30, &[tlv(6, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1]), tlv(6, curve)].concat());
        from_spki_der(&tlv(0x30, &[algorithm, tlv(3, &[vec![0, 4], vec![7; bytes]].concat())].concat())).is_ok()
    };
    assert!(on_curve(&[0x2B, 0x81, 4, 0, 34], 96));
    assert!(!on_curve(&[0x2B, 0x81, 4, 0, 35], 96), "P-521's identifier");
    assert!(!on_curve(&[0x2B, 0x81, 4, 0, 10], 64), "secp256k1's identifier");
}

#[test]
fn a_bundle_is_bounded_and_its_faults_have_a_place() {
    let text = |bytes: usize| pem_blocks(&vec![b' '; bytes]).map(|blocks| blocks.len());
    assert_eq!(text(4 * 1024 * 1024), Ok(0));
    assert!(text(4 * 1024 * 1024 + 1).unwrap_err().contains("larger"));
    let good = CertificateAuthority::new("root").self_signed();
    let bundle = pem(&[good.clone(), vec![0x30]]);
    for fault in [
        ManufacturerRoots::from_pem(bundle.as_bytes(), b"").unwrap_err(),
        ManufacturerRoots::from_pem(b"", bundle.as_bytes()).unwrap_err(),
    ] {
        assert!(fault.to_string().starts_with("EK authority 2 "), "{fault}");
    }
    let long = [good.clone(), vec![0; 8193 - good.len()]].concat();
    assert!(ManufacturerRoots::from_pem(pem(&[long[..8192].to_vec()]).as_bytes(), b"").is_ok(), "padded to the bound");
    assert!(ManufacturerRoots::from_pem(pem(&[long]).as_bytes(), b"").is_err());
    assert!(matches!(examined(&[0x30], &[], &TrustRoots::default(), NOW_S).outcome, Err(ChainFault::Malformed(_))));
}

#[test]
fn certificates_come_apart_at_every_length_of_their_length() {
    let framed = |head: &[u8], content: usize| [head, &vec![1; content]].concat();
    let [high, low] = u16::try_from(8192_usize - 4).unwrap().to_be_bytes();
    let all = [
        framed(&[0x30, 0], 0),
        framed(&[0x30, 0x7F], 127),
        framed(&[0x30, 0x81, 0x80], 128),
        framed(&[0x30, 0x82, 1, 0], 256),
        framed(&[0x30, 0x82, high, low], 8188),
    ];
    assert_eq!(split_der_certificates(&all.concat()).unwrap(), all.each_ref().map(Vec::as_slice));
    let beyond = split_der_certificates(&framed(&[0x30, 0x82, high, low + 1], 8189)).unwrap_err();
    assert!(beyond.to_string().contains("larger"), "{beyond}");
}
