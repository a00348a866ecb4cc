//! The cases of other verifiers' past failures that concern enrolment, by their number in the adversarial table.

use quotary_common::id::{Digest, HostId};
use quotary_common::reason::Reason;

use super::super::{Authority, CheckedEnrolment, EkAllowList, EnrolmentClaim, TpmKind, TrustRoots, check_enrolment};
use super::authority::{CertificateAuthority, Draft, NOW_S, p256_spki};
use super::data;
use super::software_tpm::{AK_ATTRIBUTES, EK_ATTRIBUTES, Pair, SoftwareTpm, rsa_ek_public};

fn enrol(ek: &[u8], certificates: &[Vec<u8>], ak: &[u8], roots: &TrustRoots) -> Result<CheckedEnrolment, Reason> {
    let claim = EnrolmentClaim {
        ek_public: ek,
        ek_certificates: certificates,
        ak_public: ak,
        claimed_host: None,
        tls_key: Digest::of(&[b"tls"]),
    };
    check_enrolment(&claim, roots, NOW_S).map_err(|refusal| refusal.reason)
}

fn site(root: &CertificateAuthority) -> TrustRoots {
    TrustRoots::new(vec![Authority { certificate: root.self_signed(), kind: TpmKind::Hardware }]).unwrap()
}

#[test]
fn a9_an_ek_whose_certificate_is_another_keys_is_refused_however_good_its_chain() {
    let (tpm, other, root) = (SoftwareTpm::new(), SoftwareTpm::new(), CertificateAuthority::new("root"));
    let certificate = |tpm: &SoftwareTpm| root.sign(&Draft::leaf(p256_spki(tpm.ek.point())));
    let with = |certificates: &[Vec<u8>]| {
        let (ek, ak) = (tpm.ek.ek_public(EK_ATTRIBUTES), tpm.ak.ak_public(AK_ATTRIBUTES));
        enrol(&ek, certificates, &ak, &site(&root))
    };
    let own = with(&[certificate(&tpm)]).unwrap();
    let by = own.certified_by().unwrap();
    assert_eq!((by.tpm, by.chain.len()), (TpmKind::Hardware, 2));
    assert_eq!(with(&[certificate(&other)]).unwrap_err(), Reason::EkMismatch);
    // The right certificate stands second: the first is the one that is claimed.
    assert_eq!(with(&[certificate(&other), certificate(&tpm)]).unwrap_err(), Reason::EkMismatch);
    // An AK's certificate, under an authority that is trusted, with the EK usage in it.
    let ak = data("gce/uca_tpm_ecc_sign.der");
    assert_eq!(with(&[ak]).unwrap_err(), Reason::EkMismatch);
}

#[test]
fn a9_the_host_is_named_by_the_key_that_the_credential_is_made_for() {
    let tpm = SoftwareTpm::new();
    let (ek, ak) = (tpm.ek.ek_public(EK_ATTRIBUTES), tpm.ak.ak_public(AK_ATTRIBUTES));
    let checked = enrol(&ek, &[], &ak, &TrustRoots::default()).unwrap();
    assert_eq!(checked.host_id(), HostId::of(&[&checked.ek().spki_der()]));
    assert_eq!(checked.ak_name(), &tpm.ak_public().name(), "the credential is bound to the AK's name");
}

#[test]
fn a20_an_ek_issues_no_certificates() {
    let (ek, middle) = (CertificateAuthority::new("an EK"), CertificateAuthority::new("root"));
    let tpm = SoftwareTpm::new();
    // A real EK certificate, not a CA's, whose key signs another "EK certificate".
    let not_a_ca = middle.sign(&Draft { subject: "an EK", ..Draft::leaf(ek.draft().spki) });
    let forged = ek.sign(&Draft::leaf(p256_spki(tpm.ek.point())));
    let (public, ak) = (tpm.ek.ek_public(EK_ATTRIBUTES), tpm.ak.ak_public(AK_ATTRIBUTES));
    assert_eq!(enrol(&public, &[forged, not_a_ca], &ak, &site(&middle)).unwrap_err(), Reason::EkChain);
}

#[test]
fn a23_weak_keys_and_schemes_do_not_enrol() {
    let tpm = SoftwareTpm::new();
    let ek = tpm.ek.ek_public(EK_ATTRIBUTES);
    let with_ak = |ak: &[u8]| enrol(&ek, &[], ak, &TrustRoots::default()).map(|_| ()).unwrap_err();
    let good = tpm.ak.ak_public(AK_ATTRIBUTES);
    let changed = |at: usize, value: u8| {
        let mut ak = good.clone();
        ak[at] = value;
        ak
    };
    // type, nameAlg, attributes, policy, symmetric, then scheme at 12, its hash at 14, the curve at 16.
    assert_eq!(with_ak(&changed(3, 0x04)), Reason::Malformed, "a name of SHA-1");
    assert_eq!(with_ak(&changed(15, 0x04)), Reason::Malformed, "a scheme with SHA-1");
    assert_eq!(with_ak(&changed(15, 0x0C)), Reason::AkAttributes, "P-256 with SHA-384");
    assert_eq!(with_ak(&changed(17, 0x01)), Reason::Malformed, "P-192");
    assert_eq!(with_ak(&changed(17, 0x10)), Reason::Malformed, "a Barreto-Naehrig curve");
    assert_eq!(with_ak(&rsa_ak(2048, 3)), Reason::AkAttributes, "an exponent of 3");
    assert_eq!(with_ak(&rsa_ak(1024, 0)), Reason::Malformed, "RSA of 1024 bits");
    for bits in [2048, 3072, 4096] {
        assert!(enrol(&ek, &[], &rsa_ak(bits, 0), &TrustRoots::default()).is_ok(), "RSA of {bits} bits");
    }
    let mut exponent = rsa_ek_public(&[0xC5; 256]);
    exponent[21] = 3;
    let ak = tpm.ak.ak_public(AK_ATTRIBUTES);
    assert_eq!(enrol(&exponent, &[], &ak, &TrustRoots::default()).unwrap_err(), Reason::EkMismatch, "an EK's exponent");
}

/// `TPMT_PUBLIC` of a restricted RSA signing key (RSAPSS, SHA-256).
fn rsa_ak(bits: u16, exponent: u32) -> Vec<u8> {
    let modulus = vec![0xC5; usize::from(bits / 8)];
    let length = u16::try_from(modulus.len()).unwrap();
    [
        &[0, 1, 0, 0x0B][..],
        &AK_ATTRIBUTES.to_be_bytes(),
        &[0, 0, 0, 0x10, 0, 0x16, 0, 0x0B],
        &bits.to_be_bytes(),
        &exponent.to_be_bytes(),
        &length.to_be_bytes(),
        &modulus,
    ]
    .concat()
}

#[test]
fn an_allow_list_admits_the_keys_on_it_and_says_which_hash_is_missing() {
    let tpm = SoftwareTpm::new();
    let enrol = |ek: &Pair| {
        let (ek, ak) = (ek.ek_public(EK_ATTRIBUTES), tpm.ak.ak_public(AK_ATTRIBUTES));
        enrol(&ek, &[], &ak, &TrustRoots::default()).unwrap()
    };
    let (known, stranger) = (enrol(&tpm.ek), enrol(&Pair::new()));
    let text = format!("# hosts\n\n  {} # rack 3\n", known.host_id().hex());
    let list = EkAllowList::from_text(&text).unwrap();
    assert_eq!((list.clone(), list.require(&known)), (EkAllowList::new([known.host_id()]), Ok(())));
    let refused = list.require(&stranger).unwrap_err();
    assert_eq!(refused.reason, Reason::EkChain);
    assert!(refused.detail.as_str().contains(&stranger.host_id().hex()));
    assert_eq!(EkAllowList::from_text(""), Ok(EkAllowList::default()));
    assert!(EkAllowList::default().require(&known).is_err());
    let long = format!("#{}", " ".repeat(16 * 1024 * 1024 - 1));
    assert_eq!(EkAllowList::from_text(&long), Ok(EkAllowList::default()));
    assert!(EkAllowList::from_text(&format!("{long} ")).is_err(), "beyond 16 MiB");
    let fault = EkAllowList::from_text("# one\nnothing of the kind\n").unwrap_err();
    assert!(fault.to_string().contains("line 2"));
}
