//! EK certificate chains: real ones hold, and each fault has its refusal.

use quotary_common::id::Digest;
use quotary_common::reason::Reason;
use quotary_common::tpm::{KeyParameters, TpmPublic};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::super::chain::{ChainOutcome, check_chain};
use super::super::{Authority, CertifiedBy, TpmKind, TrustRoots};
use super::authority::*;
use super::data;
use super::software_tpm::{EK_ATTRIBUTES, Pair, rsa_ek_public};

fn roots(certificates: &[Vec<u8>]) -> TrustRoots {
    let authority = |certificate: &Vec<u8>| Authority { certificate: certificate.clone(), kind: TpmKind::Software };
    TrustRoots::new(certificates.iter().map(authority).collect()).unwrap()
}

/// A chain of root, middle and issuer with a P-256 EK, in which a test changes one thing.
struct Chain {
    ek: Pair,
    root: (CertificateAuthority, Draft),
    middle: (CertificateAuthority, Draft),
    issuer: (CertificateAuthority, Draft),
    leaf: Draft,
    now_s: i64,
}

impl Chain {
    fn new() -> Self {
        let ek = Pair::new();
        let authority = |name| {
            let authority = CertificateAuthority::new(name);
            let draft = authority.draft();
            (authority, draft)
        };
        let leaf = Draft::leaf(p256_spki(ek.point()));
        Self {
            ek,
            root: authority("root"),
            middle: authority("middle"),
            issuer: authority("issuer"),
            leaf,
            now_s: NOW_S,
        }
    }
    fn ek(&self) -> TpmPublic {
        TpmPublic::parse(&self.ek.ek_public(EK_ATTRIBUTES)).unwrap()
    }
    fn root(&self) -> Vec<u8> {
        self.root.0.sign(&self.root.1)
    }
    fn issuers(&self) -> Vec<Vec<u8>> {
        vec![self.root.0.sign(&self.middle.1), self.middle.0.sign(&self.issuer.1)]
    }
    fn leaf(&self) -> Vec<u8> {
        self.issuer.0.sign(&self.leaf)
    }
    fn check(&self) -> Result<CertifiedBy, Reason> {
        outcome(&self.leaf(), &self.issuers(), &self.ek(), &roots(&[self.root()]), self.now_s)
    }
}

fn outcome(
    leaf: &[u8],
    issuers: &[Vec<u8>],
    ek: &TpmPublic,
    roots: &TrustRoots,
    now_s: i64,
) -> Result<CertifiedBy, Reason> {
    match check_chain(leaf, issuers, ek, roots, now_s).map_err(|refusal| refusal.reason)? {
        ChainOutcome::Certified(by) => Ok(by),
        ChainOutcome::Unanchored(refusal) => panic!("not anchored: {refusal}"),
    }
}

#[test]
fn certificates_of_swtpm_localca_hold() {
    let issuer = data("swtpm/issuer.der");
    for folder in ["swtpm/p384", "swtpm/rsa2048"] {
        let ek = TpmPublic::parse(&data(&format!("{folder}/ek.public"))).unwrap();
        let leaf = data(&format!("{folder}/ek.der"));
        let by = outcome(&leaf, std::slice::from_ref(&issuer), &ek, &roots(&[data("swtpm/root.der")]), NOW_S).unwrap();
        assert_eq!((by.issuer.as_str(), by.tpm), ("CN=swtpm-localca-rootca", TpmKind::Software));
        // The issuer itself may be the configured one, sent along or not; padding of the NV index may follow.
        for sent in [vec![], vec![issuer.clone()]] {
            let padded = [leaf.clone(), vec![0xFF; 100]].concat();
            let by = outcome(&padded, &sent, &ek, &roots(std::slice::from_ref(&issuer)), NOW_S).unwrap();
            assert_eq!(by.issuer, "CN=swtpm-localca");
        }
    }
}

#[test]
fn certificates_of_a_cloud_hold_and_its_ak_certificate_is_no_ek_certificate() {
    for (leaf, issuer, holds) in [
        ("uca_tpm_rsa_enc", "uca", true),
        ("uca_tpm_ecc_enc", "uca", true),
        ("pca_tpm_rsa_enc", "pca", true),
        // It carries the EK usage 2.23.133.8.1 all the same.
        ("uca_tpm_rsa_sign", "uca", false),
    ] {
        let leaf = data(&format!("gce/{leaf}.der"));
        let ek = ek_of(&leaf);
        let (issuer, root) = (data(&format!("gce/{issuer}_intermediate.der")), data(&format!("gce/{issuer}_root.der")));
        let checked = outcome(&leaf, &[issuer], &ek, &roots(&[root]), NOW_S);
        assert_eq!(checked.is_ok(), holds, "{checked:?}");
    }
}

/// The TPM's public area of the key in a certificate.
fn ek_of(certificate: &[u8]) -> TpmPublic {
    let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
    let bits = certificate.public_key().subject_public_key.data.to_vec();
    let public = if bits.len() == 65 {
        let coordinate = |bytes: &[u8]| [&[0, 32], bytes].concat();
        let head = [
            &[0, 0x23, 0, 0x0B][..],
            &EK_ATTRIBUTES.to_be_bytes(),
            &[0, 0, 0, 6, 0, 0x80, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10],
        ];
        [head.concat(), coordinate(&bits[1..33]), coordinate(&bits[33..])].concat()
    } else {
        // RSAPublicKey: the modulus ends 5 bytes before its end.
        rsa_ek_public(&bits[bits.len() - 5 - 256..bits.len() - 5])
    };
    TpmPublic::parse(&public).unwrap()
}

#[test]
fn a_chain_of_four_holds_in_whatever_order_its_issuers_come() {
    let chain = Chain::new();
    assert_eq!(chain.check().unwrap().issuer, "CN=root");
    let mut issuers = chain.issuers();
    issuers.reverse();
    issuers.push(CertificateAuthority::new("somebody").self_signed());
    let root = chain.root();
    let by = outcome(&chain.leaf(), &issuers, &chain.ek(), &roots(std::slice::from_ref(&root)), NOW_S).unwrap();
    assert_eq!(by.certificate, Digest::of(&[&root]));
}

type Change = (&'static str, fn(&mut Chain), Result<(), Reason>);

#[test]
fn every_fault_of_a_chain_is_refused() {
    let cases: &[Change] = &[
        ("nothing changed", |_| {}, Ok(())),
        ("no constraints on the leaf", |c| c.leaf.ca = None, Ok(())),
        ("no extended usage on the leaf", |c| c.leaf.extended_usage = None, Err(Reason::EkChain)),
        ("year 9999", |c| c.leaf.valid.1 = "99991231235959Z", Ok(())),
        ("a critical alternative name", |c| c.leaf.more.push((ALTERNATIVE_NAME, true, sequence_of_nothing())), Ok(())),
        ("an unknown extension", |c| c.leaf.more.push((&[0x2A, 3], false, vec![5, 0])), Ok(())),
        ("room for the CAs below", |c| c.root.1.ca = Some((true, Some(2))), Ok(())),
        ("another key", |c| c.leaf.spki = p256_spki(Pair::new().point()), Err(Reason::EkMismatch)),
        ("a leaf that is a CA", |c| c.leaf.ca = Some((true, None)), Err(Reason::EkChain)),
        ("a leaf without key usage", |c| c.leaf.key_usage = None, Err(Reason::EkChain)),
        ("a leaf that signs", |c| c.leaf.key_usage = Some(DIGITAL_SIGNATURE), Err(Reason::EkChain)),
        ("a leaf for RSA's usage", |c| c.leaf.key_usage = Some(KEY_ENCIPHERMENT), Err(Reason::EkChain)),
        ("a leaf that certifies", |c| c.leaf.key_usage = Some(KEY_AGREEMENT | CERT_SIGN), Err(Reason::EkChain)),
        ("a TLS server's leaf", |c| c.leaf.extended_usage = Some(SERVER_USAGE), Err(Reason::EkChain)),
        ("a critical unknown extension", |c| c.leaf.more.push((&[0x2A, 3], true, vec![5, 0])), Err(Reason::EkChain)),
        ("an extension twice", twice, Err(Reason::EkChain)),
        ("a leaf of tomorrow", |c| c.leaf.valid.0 = "270116000000Z", Err(Reason::EkChain)),
        ("a leaf of yesterday", |c| c.leaf.valid.1 = "270114000000Z", Err(Reason::EkChain)),
        ("everything long over", |c| c.now_s = 4_000_000_000, Err(Reason::EkChain)),
        ("an issuer of yesterday", |c| c.issuer.1.valid.1 = "270114000000Z", Err(Reason::EkChain)),
        ("a root of yesterday", |c| c.root.1.valid.1 = "270114000000Z", Err(Reason::EkChain)),
        ("an issuer that is no CA", |c| c.issuer.1.ca = Some((false, None)), Err(Reason::EkChain)),
        ("an issuer without constraints", |c| c.issuer.1.ca = None, Err(Reason::EkChain)),
        ("an issuer that may not certify", |c| c.issuer.1.key_usage = Some(DIGITAL_SIGNATURE), Err(Reason::EkChain)),
        ("an issuer without key usage", |c| c.issuer.1.key_usage = None, Err(Reason::EkChain)),
        ("a root that is no CA", |c| c.root.1.ca = Some((false, None)), Err(Reason::EkChain)),
        ("a root that may not certify", |c| c.root.1.key_usage = Some(DIGITAL_SIGNATURE), Err(Reason::EkChain)),
        ("a path too long for the root", |c| c.root.1.ca = Some((true, Some(1))), Err(Reason::EkChain)),
        ("a path too long for the middle", |c| c.middle.1.ca = Some((true, Some(0))), Err(Reason::EkChain)),
        (
            "names constrained",
            |c| c.middle.1.more.push((NAME_CONSTRAINTS, true, sequence_of_nothing())),
            Err(Reason::EkChain),
        ),
        (
            "an issuer's name with another key",
            |c| c.issuer.0 = CertificateAuthority::new("issuer"),
            Err(Reason::EkChain),
        ),
        ("a root's name with another key", |c| c.middle.1.spki = p256_spki(Pair::new().point()), Err(Reason::EkChain)),
    ];
    for (name, change, expected) in cases {
        let mut chain = Chain::new();
        change(&mut chain);
        assert_eq!(chain.check().map(|_| ()), *expected, "{name}");
    }
}

fn sequence_of_nothing() -> Vec<u8> {
    tlv(0x30, &[])
}

fn twice(chain: &mut Chain) {
    chain.leaf.more = vec![(&[0x2A, 3], false, vec![5, 0]), (&[0x2A, 3], false, vec![5, 0])];
}

#[test]
fn a_chain_that_ends_at_nobody_who_is_configured_is_told_apart_from_a_faulty_one() {
    let chain = Chain::new();
    let other = CertificateAuthority::new("another root").self_signed();
    for (sent, roots) in
        [(chain.issuers(), roots(&[other])), (vec![], roots(&[chain.root()])), (chain.issuers(), roots(&[]))]
    {
        match check_chain(&chain.leaf(), &sent, &chain.ek(), &roots, NOW_S).unwrap() {
            ChainOutcome::Unanchored(refusal) => assert_eq!(refusal.reason, Reason::EkChain),
            ChainOutcome::Certified(by) => panic!("{by:?}"),
        }
    }
    // A root that the agent brings along is no configured one.
    let mut sent = chain.issuers();
    sent.push(chain.root());
    let brought = check_chain(&chain.leaf(), &sent, &chain.ek(), &TrustRoots::default(), NOW_S);
    assert!(!matches!(brought, Ok(ChainOutcome::Certified(_))));
}

#[test]
fn a_ring_of_issuers_ends() {
    let chain = Chain::new();
    let (a, b) = (CertificateAuthority::new("issuer"), CertificateAuthority::new("b"));
    let sent = [b.sign(&a.draft()), a.sign(&b.draft()), b.sign(&a.draft()), a.sign(&b.draft())];
    let leaf = a.sign(&chain.leaf);
    assert!(!matches!(
        check_chain(&leaf, &sent, &chain.ek(), &roots(&[chain.root()]), NOW_S),
        Ok(ChainOutcome::Certified(_))
    ));
}

#[test]
fn bytes_that_are_no_certificate_are_malformed() {
    let chain = Chain::new();
    let roots = roots(&[chain.root()]);
    let reason =
        |leaf: &[u8], sent: &[Vec<u8>]| check_chain(leaf, sent, &chain.ek(), &roots, NOW_S).unwrap_err().reason;
    assert_eq!(reason(&[], &[]), Reason::Malformed);
    assert_eq!(reason(b"-----BEGIN CERTIFICATE-----", &[]), Reason::Malformed);
    assert_eq!(reason(&[chain.leaf(), vec![1]].concat(), &[]), Reason::Malformed);
    let broken = Authority { certificate: vec![0x30], kind: TpmKind::Hardware };
    assert!(TrustRoots::new(vec![broken]).unwrap_err().to_string().contains("authority 1"));
}

#[test]
fn what_came_along_and_is_no_certificate_is_passed_over() {
    let chain = Chain::new();
    let roots = roots(&[chain.root()]);
    let garbage = [vec![], vec![0x30, 0x80], vec![0x30, 0x03, 2, 1, 5], b"-----BEGIN CERTIFICATE-----".to_vec()];
    let with = |sent: &[Vec<u8>]| check_chain(&chain.leaf(), sent, &chain.ek(), &roots, NOW_S);
    let needed: Vec<Vec<u8>> = garbage.iter().cloned().chain(chain.issuers()).collect();
    assert!(matches!(with(&needed), Ok(ChainOutcome::Certified(_))));
    assert!(matches!(with(&garbage), Ok(ChainOutcome::Unanchored(_))), "the chain does need another");
}

#[test]
fn an_rsa_certificate_of_another_exponent_is_another_keys() {
    let leaf = data("gce/uca_tpm_rsa_enc.der");
    let ek = ek_of(&leaf);
    let KeyParameters::Rsa { modulus, .. } = ek.key() else { panic!("not RSA") };
    let mut public = rsa_ek_public(modulus);
    let at = public.len() - 256 - 2 - 4;
    public[at..at + 4].copy_from_slice(&3_u32.to_be_bytes());
    let ek = TpmPublic::parse(&public).unwrap();
    let refused = check_chain(&leaf, &[], &ek, &TrustRoots::default(), NOW_S).unwrap_err();
    assert_eq!(refused.reason, Reason::EkMismatch);
}
