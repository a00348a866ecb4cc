//! Enrolment: which host it is, and whether its keys are what they must be, before activation proves them.

use quotary_common::id::{Digest, HostId};
use quotary_common::limits::{CERTIFICATE_BYTES_MAX, EK_CHAIN_MAX, TPM_PUBLIC_BYTES_MAX};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::tpm::{AkKey, Attributes, KeyParameters, Symmetric, TpmName, TpmPublic, qualified_signer};

use super::chain::{CertifiedBy, ChainOutcome, TrustRoots, check_chain};

/// What an agent says of its TPM.
#[derive(Debug, Clone, Copy)]
pub struct EnrolmentClaim<'a> {
    /// `TPMT_PUBLIC` of the endorsement key, without a size prefix.
    pub ek_public: &'a [u8],
    /// Certificates in DER: the EK's first, then issuers in any order; empty when the TPM has none.
    pub ek_certificates: &'a [Vec<u8>],
    /// `TPMT_PUBLIC` of the attestation key, without a size prefix.
    pub ak_public: &'a [u8],
    /// The host that it says it is, when it enrolled before.
    pub claimed_host: Option<HostId>,
    /// SHA-256 of the SubjectPublicKeyInfo of its TLS client key.
    pub tls_key: Digest,
}

/// An enrolment whose keys and certificates are in order: made only by [`check_enrolment`]. That both keys live in
/// one TPM only the activated credential proves.
#[derive(Debug, Clone)]
pub struct CheckedEnrolment {
    host: HostId,
    ek: TpmPublic,
    ek_name: TpmName,
    ek_spki: Vec<u8>,
    ak: TpmPublic,
    ak_name: TpmName,
    ak_key: AkKey,
    certification: Result<CertifiedBy, Refusal>,
    tls_key: Digest,
}

impl CheckedEnrolment {
    /// SHA-256 of the EK's SubjectPublicKeyInfo.
    pub fn host_id(&self) -> HostId {
        self.host
    }
    /// The endorsement key: credentials are made for it.
    pub fn ek(&self) -> &TpmPublic {
        &self.ek
    }
    /// The EK's name.
    pub fn ek_name(&self) -> &TpmName {
        &self.ek_name
    }
    /// The EK's SubjectPublicKeyInfo, canonical DER.
    pub fn ek_spki(&self) -> &[u8] {
        &self.ek_spki
    }
    /// `TPMT_PUBLIC` of the EK, as it came.
    pub fn ek_public(&self) -> &[u8] {
        self.ek.bytes()
    }
    /// `TPMT_PUBLIC` of the AK, as it came.
    pub fn ak_public(&self) -> &[u8] {
        self.ak.bytes()
    }
    /// The AK's name: credentials are bound to it.
    pub fn ak_name(&self) -> &TpmName {
        &self.ak_name
    }
    /// The AK, prepared for verification.
    pub fn ak(&self) -> &AkKey {
        &self.ak_key
    }
    /// What `qualifiedSigner` must be in this host's quotes.
    pub fn qualified_signer(&self) -> TpmName {
        qualified_signer(&self.ek_name, &self.ak_name)
    }
    /// Who certified the EK; `None` when there is no certificate, or its chain ends at nobody who is configured.
    pub fn certified_by(&self) -> Option<&CertifiedBy> {
        self.certification.as_ref().ok()
    }
    /// The same for an admission that needs it (rule `ek-certificate`).
    ///
    /// # Errors
    /// A [`Refusal`] `ek-chain` that says what is missing.
    pub fn require_certified(&self) -> Result<&CertifiedBy, Refusal> {
        self.certification.as_ref().map_err(Clone::clone)
    }
    /// SHA-256 of the SubjectPublicKeyInfo of the TLS client key.
    pub fn tls_key(&self) -> Digest {
        self.tls_key
    }
}

/// Checks an enrolment: bounds and form; the EK is a restricted decryption key of one TPM; the claimed host is the
/// EK's; a certificate is this EK's and its chain holds at `now_unix_s`; the AK is a restricted signing key of one TPM.
/// An EK without certificate, or whose chain ends at an authority that is not configured, passes as not certified: the
/// admission rule decides ([`CheckedEnrolment::require_certified`]). A chain with a fault is refused.
///
/// # Errors
/// A [`Refusal`]: `too-large`, `malformed`, `ek-mismatch`, `ek-chain` or `ak-attributes`.
pub fn check_enrolment(
    claim: &EnrolmentClaim<'_>,
    roots: &TrustRoots,
    now_unix_s: i64,
) -> Result<CheckedEnrolment, Refusal> {
    check_bounds(claim)?;
    let ek = read_public("the endorsement key", claim.ek_public)?;
    let ak = read_public("the attestation key", claim.ak_public)?;
    let ek_spki = ek.spki_der();
    let host = HostId::of(&[&ek_spki]);
    check_ek(&ek)?;
    if let Some(claimed) = claim.claimed_host.filter(|claimed| *claimed != host) {
        let detail = format!("the endorsement key is that of {host}, not of the claimed {claimed}");
        return Err(Refusal::new(Reason::EkMismatch, detail));
    }
    let certification = match claim.ek_certificates {
        [] => Err(Refusal::new(Reason::EkChain, "the endorsement key came without a certificate")),
        [leaf, issuers @ ..] => match check_chain(leaf, issuers, &ek, roots, now_unix_s)? {
            ChainOutcome::Certified(by) => Ok(by),
            ChainOutcome::Unanchored(refusal) => Err(refusal),
        },
    };
    let ak_key = check_ak(&ak)?;
    let (ek_name, ak_name) = (ek.name(), ak.name());
    Ok(CheckedEnrolment { host, ek, ek_name, ek_spki, ak, ak_name, ak_key, certification, tls_key: claim.tls_key })
}

fn check_bounds(claim: &EnrolmentClaim<'_>) -> Result<(), Refusal> {
    let too_large = |what: &str, have: usize, max: usize| {
        Refusal::new(Reason::TooLarge, format!("{what}: {have}, at most {max} are allowed"))
    };
    for (what, bytes) in [("bytes of the EK's public area", claim.ek_public), ("bytes of the AK's", claim.ak_public)] {
        if bytes.len() > TPM_PUBLIC_BYTES_MAX {
            return Err(too_large(what, bytes.len(), TPM_PUBLIC_BYTES_MAX));
        }
    }
    if claim.ek_certificates.len() > EK_CHAIN_MAX {
        return Err(too_large("certificates of the EK", claim.ek_certificates.len(), EK_CHAIN_MAX));
    }
    match claim.ek_certificates.iter().map(Vec::len).max() {
        Some(longest) if longest > CERTIFICATE_BYTES_MAX => {
            Err(too_large("bytes of a certificate", longest, CERTIFICATE_BYTES_MAX))
        }
        _ => Ok(()),
    }
}

fn read_public(what: &str, bytes: &[u8]) -> Result<TpmPublic, Refusal> {
    TpmPublic::parse(bytes).map_err(|error| Refusal::new(Reason::Malformed, format!("{what}: {error}")))
}

/// An endorsement key is a restricted decryption key that never leaves its TPM (TCG EK Credential Profile, B.3).
fn check_ek(ek: &TpmPublic) -> Result<(), Refusal> {
    let required = Attributes::FIXED_TPM
        | Attributes::FIXED_PARENT
        | Attributes::SENSITIVE_DATA_ORIGIN
        | Attributes::RESTRICTED
        | Attributes::DECRYPT;
    let attributes = ek.attributes();
    if !attributes.has(required) || attributes.0 & Attributes::SIGN != 0 || ek.symmetric() == Symmetric::Null {
        let detail = format!(
            "objectAttributes 0x{:08x}: an endorsement key is a restricted decryption key, fixed to its TPM and parent",
            attributes.0
        );
        return Err(Refusal::new(Reason::EkMismatch, detail));
    }
    check_exponent("endorsement", ek).map_err(|detail| Refusal::new(Reason::EkMismatch, detail))
}

/// An attestation key is a restricted signing key that never leaves its TPM, with a scheme that is accepted.
pub(crate) fn check_ak(ak: &TpmPublic) -> Result<AkKey, Refusal> {
    let refuse = |detail: String| Refusal::new(Reason::AkAttributes, detail);
    let required = Attributes::FIXED_TPM
        | Attributes::FIXED_PARENT
        | Attributes::SENSITIVE_DATA_ORIGIN
        | Attributes::RESTRICTED
        | Attributes::SIGN;
    let attributes = ak.attributes();
    let forbidden = Attributes::DECRYPT | Attributes::X509_SIGN;
    if !attributes.has(required) || attributes.0 & forbidden != 0 {
        return Err(refuse(format!(
            "objectAttributes 0x{:08x}: an attestation key is restricted, signs, does not decrypt, is fixed to its TPM \
             and parent, and was made in the TPM",
            attributes.0
        )));
    }
    check_exponent("attestation", ak).map_err(refuse)?;
    AkKey::from_public(ak).map_err(|error| {
        refuse(format!(
            "{error}: ECDSA P-256 with SHA-256, P-384 with SHA-384, or RSA with SHA-256 and longer is accepted"
        ))
    })
}

fn check_exponent(which: &str, public: &TpmPublic) -> Result<(), String> {
    match public.key() {
        KeyParameters::Rsa { exponent, .. } if *exponent != 65537 => {
            Err(format!("the {which} key's RSA exponent is {exponent}, accepted is 65537"))
        }
        _ => Ok(()),
    }
}
