//! The shipped bundle, algorithms of signatures, and certificates that stand one after the other.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use quotary_common::reason::Reason;

use super::path::Climb;
use super::*;
use crate::attest::tests::authority::{CertificateAuthority, Draft, NOW_S, p256_spki};
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
        *by_manufacturer.entry(anchor.manufacturer.as_ref().unwrap()).or_default() += 1;
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
    let (mut holds, mut others) = (0, BTreeMap::<&str, Vec<String>>::new());
    for intermediate in &shipped.intermediates {
        let certificate = parse(&intermediate.der).unwrap();
        let subject = certificate.subject().to_string();
        match Climb::new(certificate, &roots, SHIPPED_S).run(&[]).end {
            Ok(_) => holds += 1,
            Err(fault) => others.entry(fault.code()).or_default().push(format!("{subject}: {fault}")),
        }
    }
    for (code, list) in &others {
        println!("{code} {}", list.len());
        for l in list {
            println!("   {l}");
        }
    }
    assert_eq!(holds, 0);
}
