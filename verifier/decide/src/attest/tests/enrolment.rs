//! Enrolment: who a host is follows from its EK, and only keys of the right kind pass.

use quotary_common::id::{Digest, HostId};
use quotary_common::reason::Reason;
use quotary_common::tpm::{Attributes, Quote};

use super::super::{Authority, CheckedEnrolment, EnrolmentClaim, TpmKind, TrustRoots, check_enrolment};
use super::authority::NOW_S;
use super::data;
use super::software_tpm::{AK_ATTRIBUTES, EK_ATTRIBUTES, SoftwareTpm};

struct Claim {
    ek_public: Vec<u8>,
    ek_certificates: Vec<Vec<u8>>,
    ak_public: Vec<u8>,
    claimed_host: Option<HostId>,
}

impl Claim {
    fn of(tpm: &SoftwareTpm) -> Self {
        Self {
            ek_public: tpm.ek.ek_public(EK_ATTRIBUTES),
            ek_certificates: vec![],
            ak_public: tpm.ak.ak_public(AK_ATTRIBUTES),
            claimed_host: None,
        }
    }
    fn real(folder: &str) -> Self {
        let read = |name: &str| data(&format!("{folder}/{name}"));
        Self {
            ek_public: read("ek.public"),
            ek_certificates: vec![read("ek.der"), data("swtpm/issuer.der")],
            ak_public: read("ak.public"),
            claimed_host: None,
        }
    }
    fn check(&self) -> Result<CheckedEnrolment, Reason> {
        self.check_under(&swtpm_root())
    }
    fn check_under(&self, roots: &TrustRoots) -> Result<CheckedEnrolment, Reason> {
        let claim = EnrolmentClaim {
            ek_public: &self.ek_public,
            ek_certificates: &self.ek_certificates,
            ak_public: &self.ak_public,
            claimed_host: self.claimed_host,
            tls_key: Digest::of(&[b"tls"]),
        };
        check_enrolment(&claim, roots, NOW_S).map_err(|refusal| refusal.reason)
    }
}

fn swtpm_root() -> TrustRoots {
    TrustRoots::new(vec![Authority { certificate: data("swtpm/root.der"), kind: TpmKind::Software }]).unwrap()
}

#[test]
fn real_tpms_enrol_certified_and_their_quotes_name_the_expected_signer() {
    let mut ids = vec![];
    for folder in ["swtpm/p384", "swtpm/rsa2048"] {
        let claim = Claim::real(folder);
        let checked = claim.check().unwrap();
        assert_eq!(checked.certified_by().unwrap().tpm, TpmKind::Software);
        assert_eq!(checked.host_id(), HostId::of(&[checked.ek_spki()]));
        assert_eq!((checked.ek_public(), checked.ak_public()), (&claim.ek_public[..], &claim.ak_public[..]));
        let (attest, signature) = (data(&format!("{folder}/quote.msg")), data(&format!("{folder}/quote.sig")));
        checked.ak().verify(&attest, &signature).unwrap();
        assert_eq!(Quote::parse(&attest).unwrap().qualified_signer, checked.qualified_signer().as_bytes());
        ids.push(checked.host_id());
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn an_ek_without_a_configured_authority_passes_as_not_certified() {
    let mut claim = Claim::real("swtpm/p384");
    let unknown = claim.check_under(&TrustRoots::default()).unwrap();
    claim.ek_certificates.clear();
    for checked in [unknown, claim.check().unwrap(), Claim::of(&SoftwareTpm::new()).check().unwrap()] {
        assert!(checked.certified_by().is_none());
        assert_eq!(checked.require_certified().unwrap_err().reason, Reason::EkChain);
    }
}

#[test]
fn a_host_id_cannot_be_claimed_with_another_ek_nor_an_ek_with_another_certificate() {
    let mut claim = Claim::real("swtpm/p384");
    let own = claim.check().unwrap().host_id();
    claim.claimed_host = Some(own);
    assert_eq!(claim.check().unwrap().host_id(), own);
    claim.claimed_host = Some(HostId::of(&[b"the victim"]));
    assert_eq!(claim.check().unwrap_err(), Reason::EkMismatch);
    let mut claim = Claim::of(&SoftwareTpm::new());
    claim.ek_certificates = Claim::real("swtpm/p384").ek_certificates;
    assert_eq!(claim.check().unwrap_err(), Reason::EkMismatch);
    let mut claim = Claim::real("swtpm/p384");
    claim.ek_certificates[0] = data("swtpm/rsa2048/ek.der");
    assert_eq!(claim.check().unwrap_err(), Reason::EkMismatch);
}

#[test]
fn an_attestation_key_that_could_sign_what_no_tpm_made_is_refused() {
    let tpm = SoftwareTpm::new();
    let with = |attributes: u32| {
        let mut claim = Claim::of(&tpm);
        claim.ak_public = tpm.ak.ak_public(attributes);
        claim.check().map(|_| ())
    };
    assert_eq!(with(AK_ATTRIBUTES), Ok(()));
    for missing in [
        Attributes::RESTRICTED,
        Attributes::SIGN,
        Attributes::FIXED_TPM,
        Attributes::FIXED_PARENT,
        Attributes::SENSITIVE_DATA_ORIGIN,
    ] {
        assert_eq!(with(AK_ATTRIBUTES & !missing), Err(Reason::AkAttributes), "without 0x{missing:x}");
    }
    for added in [Attributes::DECRYPT, Attributes::X509_SIGN] {
        assert_eq!(with(AK_ATTRIBUTES | added), Err(Reason::AkAttributes), "with 0x{added:x}");
    }
    let mut claim = Claim::of(&tpm);
    claim.ak_public = tpm.ek.ek_public(EK_ATTRIBUTES);
    assert_eq!(claim.check().unwrap_err(), Reason::AkAttributes, "an EK as AK");
    let mut null_scheme = tpm.ak.ak_public(AK_ATTRIBUTES);
    null_scheme[13] = 0x10;
    null_scheme.drain(14..16);
    claim.ak_public = null_scheme;
    assert_eq!(claim.check().unwrap_err(), Reason::AkAttributes, "no scheme");
}

#[test]
fn an_endorsement_key_of_another_kind_is_refused() {
    let tpm = SoftwareTpm::new();
    let with = |public: Vec<u8>| {
        let mut claim = Claim::of(&tpm);
        claim.ek_public = public;
        claim.check().map(|_| ())
    };
    for missing in [Attributes::RESTRICTED, Attributes::DECRYPT, Attributes::FIXED_TPM, Attributes::FIXED_PARENT] {
        assert_eq!(with(tpm.ek.ek_public(EK_ATTRIBUTES & !missing)), Err(Reason::EkMismatch));
    }
    assert_eq!(with(tpm.ek.ek_public(EK_ATTRIBUTES | Attributes::SIGN)), Err(Reason::EkMismatch));
    assert_eq!(with(tpm.ek.ak_public(EK_ATTRIBUTES)), Err(Reason::EkMismatch), "no symmetric cipher");
}

#[test]
fn bounds_and_forms_come_first() {
    let tpm = SoftwareTpm::new();
    let changed = |change: fn(&mut Claim)| {
        let mut claim = Claim::of(&tpm);
        change(&mut claim);
        claim.check().unwrap_err()
    };
    assert_eq!(changed(|c| c.ek_public.resize(1025, 0)), Reason::TooLarge);
    assert_eq!(changed(|c| c.ak_public.resize(1025, 0)), Reason::TooLarge);
    assert_eq!(changed(|c| c.ek_certificates = vec![vec![]; 9]), Reason::TooLarge);
    assert_eq!(changed(|c| c.ek_certificates = vec![vec![0; 8193]]), Reason::TooLarge);
    // At the bound it is the form that is refused.
    assert_eq!(changed(|c| c.ek_public.resize(1024, 0)), Reason::Malformed);
    assert_eq!(changed(|c| c.ak_public.resize(1024, 0)), Reason::Malformed);
    assert_eq!(changed(|c| c.ek_certificates = vec![vec![]; 8]), Reason::Malformed);
    assert_eq!(changed(|c| c.ek_certificates = vec![vec![0; 8192]]), Reason::Malformed);
    assert_eq!(changed(|c| c.ek_public.clear()), Reason::Malformed);
    assert_eq!(changed(|c| c.ak_public.push(0)), Reason::Malformed);
}
