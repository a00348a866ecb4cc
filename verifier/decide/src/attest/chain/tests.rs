//! The shipped bundle, algorithms of signatures, and certificates that stand one after the other.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use quotary_common::reason::Reason;

use x509_parser::prelude::FromDer;

use super::certificate::name_key;
use super::path::Climb;
use super::*;
use crate::attest::tests::authority::{CertificateAuthority, Draft, FROM, NOW_S, p256_spki, tlv};
use crate::attest::tests::data;
use crate::attest::tests::software_tpm::Pair;

/// 2026-11-01: within the validity of most of what is shipped.
const SHIPPED_S: i64 = 1_793_000_000;

#[test]
fn a19_every_shipped_certificate_reads_as_it_came() {
    let shipped = ManufacturerRoots::built_in().unwrap();
    assert_eq!((shipped.authorities(), shipped.intermediates()), (26, 143));
    let text = include_bytes!("../../../data/ca/MIRROR.tpm-ca-certificates.pem");
    let original = pem_blocks(text).unwrap();
    for (anchor, block) in shipped.anchors.iter().zip(&original) {
        assert_eq!(anchor.certificate.der, block.content);
    }
    let mut by_manufacturer: BTreeMap<&str, usize> = BTreeMap::new();
    for anchor in &shipped.anchors {
        *by_manufacturer.entry(anchor.manufacturer.as_ref().unwrap().as_str()).or_default() += 1;
    }
    let expected = [
        ("AMD", 3),
        ("Infineon", 4),
        ("Intel", 1),
        ("Microsoft", 2),
        ("NSING", 2),
        ("Nuvoton", 8),
        ("STMicroelectronics", 6),
    ];
    assert_eq!(by_manufacturer, BTreeMap::from(expected));
}

#[test]
fn every_shipped_intermediate_leads_to_an_authority_or_says_why_not() {
    let shipped = ManufacturerRoots::built_in().unwrap();
    let roots = TrustRoots::default().with_manufacturers(&shipped);
    let (mut holds, mut unsupported) = (0, BTreeMap::<String, usize>::new());
    for intermediate in &shipped.intermediates {
        let climbed = Climb::new(parse(&intermediate.der).unwrap(), &roots, SHIPPED_S).run(&[]);
        match climbed.end {
            Ok(_) => holds += 1,
            Err(ChainFault::Algorithm(_)) => {
                let issuer = climbed.chain.last().unwrap().issuer.clone();
                *unsupported.entry(issuer).or_default() += 1;
            }
            Err(other) => panic!("{}: {other}", climbed.chain[0].subject),
        }
    }
    // Roots on P-521, which is not implemented: an intermediate under them has to be configured itself.
    let roots: Vec<usize> = unsupported.values().copied().collect();
    assert_eq!((holds, roots), (115, vec![4, 15, 5, 4]), "{unsupported:?}");
}

#[test]
fn a_name_is_the_same_as_printable_and_as_utf8_string_and_in_no_other_way() {
    let key = |tag: u8, text: &str| {
        let value = [&[tag, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let attribute = [&[0x06, 3, 0x55, 4, 3][..], &value].concat();
        let wrap = |tag: u8, inner: Vec<u8>| [vec![tag, u8::try_from(inner.len()).unwrap()], inner].concat();
        let name = wrap(0x30, wrap(0x31, wrap(0x30, attribute)));
        let (_, name) = x509_parser::x509::X509Name::from_der(&name).unwrap();
        name_key(&name)
    };
    assert_eq!(key(0x13, "Root"), key(0x0C, "Root"));
    for other in [key(0x0C, "root"), key(0x0C, "Root "), key(0x16, "Root"), key(0x0C, "")] {
        assert_ne!(key(0x13, "Root"), other);
    }
}

fn examined(name: &str) -> Result<CertifiedBy, ChainFault> {
    let read = |which: &str| data(&format!("ek-algorithms/{name}-{which}.der"));
    let roots = TrustRoots::new(vec![Authority { certificate: read("root"), kind: TpmKind::Hardware }]).unwrap();
    let leaf = read("leaf");
    examine(&ChainQuestion { leaf: &leaf, issuers: &[], ek: None, now_unix_s: NOW_S }, &roots).outcome
}

#[test]
fn every_accepted_algorithm_of_a_signature_holds() {
    for name in [
        "rsassa-sha256",
        "rsassa-sha384",
        "rsassa-sha512",
        "rsapss-sha256",
        "rsapss-sha384",
        "rsapss-sha512",
        "ecdsa-p256-sha384",
        "ecdsa-p384",
        "ecdsa-p384-sha256",
    ] {
        let by = examined(name).unwrap();
        assert_eq!(by.issuer, format!("CN={name}"));
        assert_eq!((by.chain.len(), by.chain[0].serial.as_str(), by.chain[0].ca), (2, "07", false));
    }
}

#[test]
fn sha1_holds_on_no_path_but_a_roots_own_signature_is_not_asked() {
    for name in ["rsassa-sha1", "rsapss-sha1", "ecdsa-sha1"] {
        let fault = examined(name).unwrap_err();
        assert_eq!(fault.code(), "ek-chain", "{name}");
        assert!(fault.to_string().contains("SHA-1"), "{fault}");
    }
    let by = examined("old").unwrap();
    assert_eq!((by.issuer.as_str(), by.chain[1].signature.as_str()), ("CN=old root", "rsassa-sha1"));
}

#[test]
fn a_signature_on_p521_is_told_as_such_and_leaves_the_ek_uncertified_only() {
    let fault = examined("ecdsa-p521").unwrap_err();
    assert_eq!(fault.code(), "ek-algorithm");
    assert!(fault.is_only_uncertified());
    assert_eq!(Refusal::from(fault).reason, Reason::EkChain);
}

#[test]
fn a_changed_byte_of_what_is_signed_or_of_its_signature_ends_the_chain() {
    let root = data("ek-algorithms/ecdsa-p384-root.der");
    let roots = TrustRoots::new(vec![Authority { certificate: root, kind: TpmKind::Hardware }]).unwrap();
    let good = data("ek-algorithms/ecdsa-p384-leaf.der");
    let holds = |leaf: &[u8]| {
        examine(&ChainQuestion { leaf, issuers: &[], ek: None, now_unix_s: NOW_S }, &roots).outcome.is_ok()
    };
    assert!(holds(&good));
    // The algorithm between them is told twice: the signed one decides.
    let signed = 4 + parse(&good).unwrap().tbs_certificate.as_ref().len();
    for at in (0..signed).chain(signed + 12..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(!holds(&bad), "byte {at}");
    }
}

#[test]
fn what_stands_beside_the_signature_must_say_what_was_signed() {
    let root = data("ek-algorithms/rsapss-sha256-root.der");
    let roots = TrustRoots::new(vec![Authority { certificate: root, kind: TpmKind::Hardware }]).unwrap();
    let holds = |leaf: &[u8], roots: &TrustRoots| {
        examine(&ChainQuestion { leaf, issuers: &[], ek: None, now_unix_s: NOW_S }, roots).outcome.is_ok()
    };
    let mut leaf = data("ek-algorithms/rsapss-sha256-leaf.der");
    assert!(holds(&leaf, &roots));
    // The length of the salt, the last byte of the algorithm: 32.
    let at = 4 + parse(&leaf).unwrap().tbs_certificate.as_ref().len();
    let at = at + 1 + usize::from(leaf[at + 1]);
    assert_eq!(leaf[at], 32);
    leaf[at] = 48;
    assert!(!holds(&leaf, &roots));
    // A signature whose last bit is said not to be there: it must be zero for that to read at all.
    let root = CertificateAuthority::new("root");
    let authority = Authority { certificate: root.self_signed(), kind: TpmKind::Hardware };
    let roots = TrustRoots::new(vec![authority]).unwrap();
    let draft = Draft::leaf(p256_spki(Pair::new().point()));
    let mut leaf = std::iter::repeat_with(|| root.sign(&draft)).find(|leaf| leaf.last().unwrap() & 1 == 0).unwrap();
    assert!(holds(&leaf, &roots));
    let signature = parse(&leaf).unwrap().signature_value.data.len();
    let unused = leaf.len() - signature - 1;
    leaf[unused] = 1;
    assert!(!holds(&leaf, &roots));
}

#[test]
fn a_copy_of_an_authority_under_another_name_ends_the_chain_where_the_authority_itself_would() {
    let outcome = |change: fn(&mut Draft)| {
        let mut root = CertificateAuthority::new("root");
        let mut draft = root.draft();
        change(&mut draft);
        let certificate = root.sign(&draft);
        root.name = "alias";
        let leaf = root.sign(&Draft::leaf(p256_spki(Pair::new().point())));
        let alias = CertificateAuthority::new("another authority").sign(&root.draft());
        let roots = TrustRoots::new(vec![Authority { certificate, kind: TpmKind::Hardware }]).unwrap();
        let issuers = [alias.as_slice()];
        examine(&ChainQuestion { leaf: &leaf, issuers: &issuers, ek: None, now_unix_s: NOW_S }, &roots).outcome
    };
    assert_eq!(outcome(|_| {}).unwrap().issuer, "CN=root");
    assert_eq!(outcome(|root| root.ca = Some((true, Some(0)))).unwrap().chain.len(), 3);
    assert!(outcome(|root| root.valid.1 = "260201000000Z").is_err(), "the authority is over");
    assert!(outcome(|root| root.ca = Some((false, None))).is_err(), "the authority is no CA");
}

#[test]
fn keys_of_other_kinds_and_sizes_do_not_read() {
    let rsa = |modulus: &[u8], exponent: &[u8]| {
        let key = tlv(0x30, &[tlv(2, &[&[0], modulus].concat()), tlv(2, exponent)].concat());
        let algorithm = tlv(0x30, &[6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1, 5, 0]);
        from_spki_der(&tlv(0x30, &[algorithm, tlv(3, &[vec![0], key].concat())].concat()))
    };
    let modulus = |bytes: usize| vec![0xC5; bytes];
    for bytes in [256, 384, 512] {
        assert!(rsa(&modulus(bytes), &[1, 0, 1]).is_ok());
    }
    let even = [modulus(255), vec![2]].concat();
    let low = [vec![0x45], modulus(255)].concat();
    for (what, modulus) in [("1024 bits", modulus(128)), ("2056 bits", modulus(257)), ("even", even), ("low", low)] {
        assert!(rsa(&modulus, &[1, 0, 1]).is_err(), "{what}");
    }
    assert!(rsa(&modulus(256), &[1, 0, 0, 0, 1]).is_err(), "an exponent of five bytes");
    let pair = Pair::new();
    let spki = p256_spki(pair.point());
    let expected = KeyParameters::Ecc { curve: quotary_common::tpm::Curve::P256, point: pair.point().to_vec() };
    assert_eq!(from_spki_der(&spki), Ok(expected));
    assert!(from_spki_der(&[spki.clone(), vec![0]].concat()).is_err(), "a byte after it");
    assert!(from_spki_der(&p256_spki(&pair.point()[..33])).is_err(), "half a point");
    let mut compressed = pair.point().to_vec();
    compressed[0] = 2;
    assert!(from_spki_der(&p256_spki(&compressed)).is_err(), "not marked as uncompressed");
    let mut other_curve = spki;
    let at = other_curve.len() - 65 - 3 - 1;
    other_curve[at] = 1;
    assert!(from_spki_der(&other_curve).is_err(), "P-192's identifier");
}

/// An on-die chain: the root, then each the issuer of the next, and the leaf.
fn on_die(depth: usize) -> (Vec<u8>, Vec<Vec<u8>>, Vec<u8>) {
    const NAMES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let authorities: Vec<_> = NAMES[..=depth].iter().map(|name| CertificateAuthority::new(name)).collect();
    let issued = authorities.windows(2).map(|pair| pair[0].sign(&pair[1].draft())).collect();
    let leaf = authorities[depth].sign(&Draft::leaf(p256_spki(Pair::new().point())));
    (authorities[0].self_signed(), issued, leaf)
}

fn chain_of(depth: usize) -> Examination {
    let (root, issued, leaf) = on_die(depth);
    let nv = issued.iter().flat_map(|certificate| [certificate.clone(), vec![0xFF; 7]].concat()).collect::<Vec<u8>>();
    let issuers = split_der_certificates(&nv).unwrap();
    assert_eq!(issuers, issued.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let roots = TrustRoots::new(vec![Authority { certificate: root, kind: TpmKind::Hardware }]).unwrap();
    examine(&ChainQuestion { leaf: &leaf, issuers: &issuers, ek: None, now_unix_s: NOW_S }, &roots)
}

#[test]
fn an_on_die_chain_from_nv_holds_as_deep_as_is_allowed() {
    for depth in [0, 1, 7, 8] {
        let examination = chain_of(depth);
        assert!(examination.outcome.is_ok(), "{depth}: {:?}", examination.outcome);
        assert_eq!(examination.chain.len(), depth + 2);
        assert!(examination.chain.last().unwrap().authority);
    }
}

#[test]
fn certificates_one_after_the_other_come_apart_or_say_where_not() {
    let one = data("swtpm/issuer.der");
    let split =
        |bytes: &[u8]| split_der_certificates(bytes).map(|found| found.len()).map_err(|fault| fault.to_string());
    assert_eq!((split(&[]), split(&[0; 99]), split(&[0xFF; 99])), (Ok(0), Ok(0), Ok(0)));
    assert_eq!(split(&one.repeat(8)), Ok(8));
    assert!(split(&one.repeat(9)).unwrap_err().contains("more certificates"));
    assert!(split(&one[..one.len() - 1]).unwrap_err().contains("at byte 0: the certificate is cut off"));
    let then_text = [one.as_slice(), b"text"].concat();
    assert!(split(&then_text).unwrap_err().contains(&format!("at byte {}: no certificate", one.len())));
    assert!(split(&[0x30, 0x82, 0xFF, 0xFF]).unwrap_err().contains("larger"));
    assert!(split(&[0x30, 0x84, 0, 0, 0, 1, 5]).unwrap_err().contains("no certificate"));
}

#[test]
fn namesakes_and_copies_cost_no_more_than_the_budget_and_hide_nothing() {
    let chain = CertificateAuthority::new("root");
    let issuer = CertificateAuthority::new("issuer");
    let leaf = issuer.sign(&Draft::leaf(p256_spki(Pair::new().point())));
    // An expired copy of the issuer's certificate stands before the good one, and strangers of the same name too.
    let mut expired = issuer.draft();
    expired.valid.1 = "260201000000Z";
    let strangers: Vec<_> = (0..5).map(|_| CertificateAuthority::new("issuer").self_signed()).collect();
    let mut sent = vec![chain.sign(&expired)];
    sent.extend(strangers);
    sent.push(chain.sign(&issuer.draft()));
    let sent: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
    let authority = Authority { certificate: chain.self_signed(), kind: TpmKind::Hardware };
    let roots = TrustRoots::new(vec![authority]).unwrap();
    let question = ChainQuestion { leaf: &leaf, issuers: &sent, ek: None, now_unix_s: NOW_S };
    assert!(examine(&question, &roots).outcome.is_ok());
    let crowd = (0..40)
        .map(|_| Authority { certificate: CertificateAuthority::new("issuer").self_signed(), kind: TpmKind::Hardware });
    let crowd = TrustRoots::new(crowd.collect()).unwrap();
    let fault = examine(&question, &crowd).outcome.unwrap_err();
    assert!(fault.to_string().contains("more certificates"), "{fault}");
}

#[test]
fn only_under_an_excepted_authority_may_the_ek_usage_be_missing() {
    let root = CertificateAuthority::new("root");
    let mut draft = Draft::leaf(p256_spki(Pair::new().point()));
    draft.extended_usage = None;
    let leaf = root.sign(&draft);
    let certificate = root.self_signed();
    let spki = Digest::of(&[parse(&certificate).unwrap().public_key().raw]);
    let roots = TrustRoots::new(vec![Authority { certificate, kind: TpmKind::Software }]).unwrap();
    let question = ChainQuestion { leaf: &leaf, issuers: &[], ek: None, now_unix_s: NOW_S };
    let fault = examine(&question, &roots).outcome.unwrap_err();
    assert!(fault.to_string().contains("2.23.133.8.1"), "{fault}");
    assert!(examine(&question, &roots.clone().with_usage_exception(Digest::of(&[b"another"]))).outcome.is_err());
    let own = Digest::of(&[parse(&leaf).unwrap().public_key().raw]);
    assert!(examine(&question, &roots.clone().with_usage_exception(own)).outcome.is_err(), "an EK is no authority");
    assert!(examine(&question, &roots.with_usage_exception(spki)).outcome.is_ok());
}

#[test]
fn a_manufacturers_authority_makes_a_tpm_hardware_and_a_configured_one_what_it_is_said_to_be() {
    let root = CertificateAuthority::new("root");
    let (leaf, certificate) = (root.sign(&Draft::leaf(p256_spki(Pair::new().point()))), root.self_signed());
    let pem = |owner: &str| {
        let body = data_encoding::BASE64.encode(&certificate);
        format!("#\n# Owner: {owner}\n#\n-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    let question = ChainQuestion { leaf: &leaf, issuers: &[], ek: None, now_unix_s: NOW_S };
    for (owner, name) in [("IFX", "Infineon"), ("NEW", "NEW")] {
        let bundle = ManufacturerRoots::from_pem(pem(owner).as_bytes(), b"").unwrap();
        let by = examine(&question, &TrustRoots::default().with_manufacturers(&bundle)).outcome.unwrap();
        assert_eq!((by.tpm, by.manufacturer.as_deref()), (TpmKind::Hardware, Some(name)));
        // Intermediates of a bundle are no authorities.
        let none = TrustRoots::default().with_intermediates_of(&bundle);
        assert!(examine(&question, &none).outcome.is_err());
    }
    let authority = Authority { certificate: certificate.clone(), kind: TpmKind::Software };
    let bundle = ManufacturerRoots::from_pem(pem("IFX").as_bytes(), b"").unwrap();
    let roots = TrustRoots::new(vec![authority]).unwrap().with_manufacturers(&bundle);
    let by = examine(&question, &roots).outcome.unwrap();
    assert_eq!((by.tpm, by.manufacturer), (TpmKind::Software, None), "the configuration's word goes first");
}

#[test]
fn an_authority_is_known_by_its_key_and_of_one_that_is_there_twice_the_first_counts() {
    let [site, maker] = ["site", "maker"].map(CertificateAuthority::new);
    let renewed = site.sign(&Draft { valid: (FROM, "370101000000Z"), ..site.draft() });
    let authorities = [
        (site.self_signed(), TpmKind::Software),
        (maker.self_signed(), TpmKind::Hardware),
        (renewed, TpmKind::Hardware),
    ];
    let authorities = authorities.map(|(certificate, kind)| Authority { certificate, kind });
    let roots = TrustRoots::new(authorities.to_vec()).unwrap();
    let by = |authority: &CertificateAuthority| {
        let leaf = authority.sign(&Draft::leaf(p256_spki(Pair::new().point())));
        let question = ChainQuestion { leaf: &leaf, issuers: &[], ek: None, now_unix_s: NOW_S };
        let by = examine(&question, &roots).outcome.unwrap();
        (by.authority_spki, by.tpm)
    };
    let (of_site, of_maker) = (by(&site), by(&maker));
    assert_eq!((of_site.1, of_maker.1), (TpmKind::Software, TpmKind::Hardware));
    assert_eq!(roots.by_key(), BTreeMap::from([of_site, of_maker]), "as in a chain");
}

#[test]
fn pem_text_that_is_broken_says_what_is_wrong() {
    let broken = |text: &str| pem_blocks(text.as_bytes()).unwrap_err();
    assert!(broken("-----BEGIN X").contains("first line"));
    assert!(broken("-----BEGIN X-----\nAA==").contains("no end"));
    assert!(broken("-----BEGIN X-----\nAA==\n-----END Y-----").contains("another's"));
    assert!(broken("-----BEGIN X-----\n!\n-----END X-----").contains("base64"));
    assert!(pem_blocks(&[0xFF]).unwrap_err().contains("UTF-8"));
    let blocks = pem_blocks(b"one\n-----BEGIN X-----\nAA==\n-----END X-----\ntwo").unwrap();
    assert_eq!((blocks.len(), blocks[0].preamble, blocks[0].content.as_slice()), (1, "one\n", &[0][..]));
}

proptest! {
    #[test]
    fn splitting_and_pem_are_total_and_give_back_what_they_were_given(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(found) = split_der_certificates(&bytes) {
            prop_assert!(found.iter().map(|certificate| certificate.len()).sum::<usize>() <= bytes.len());
        }
        let _ = pem_blocks(&bytes);
        let framed = [&[0x30, 0x82, 0, 4][..], &[1, 2, 3, 4], &bytes].concat();
        if let Ok(found) = split_der_certificates(&framed) {
            prop_assert_eq!(found[0], &framed[..8]);
        }
    }
}
