//! EK certificate chains: lenient about DER, strict about the chain (TCG EK Credential Profile 2.x; RFC 5280, 6.1).
//!
//! Hardware vendors ship certificates that are not quite DER; the signed bytes are used as they came. Everything that
//! makes a chain a chain is checked: see [`check_chain`].

use std::collections::BTreeSet;

use quotary_common::cbor::Text;
use quotary_common::envelope::Name;
use quotary_common::id::Digest;
use quotary_common::limits::{CERTIFICATE_BYTES_MAX, DETAIL_BYTES_MAX, EK_CHAIN_MAX};
use quotary_common::reason::{Reason, Refusal};
use quotary_common::tpm::{Curve, KeyParameters, TpmPublic};
use x509_parser::der_parser::oid;
use x509_parser::oid_registry as registry;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Whether an authority certifies chips or programs: what a TPM is follows from here, never from an agent's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TpmKind {
    /// A manufacturer's authority for TPM chips or firmware TPMs.
    Hardware,
    /// A site's or a cloud's authority for software TPMs.
    Software,
}

/// A configured authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Its certificate in DER; it need not be self-signed.
    pub certificate: Vec<u8>,
    /// What it certifies.
    pub kind: TpmKind,
}

/// The configured authorities: each parses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustRoots(Vec<Authority>);

/// An authority's certificate that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("EK authority {position} (counted from 1): {what}; give an X.509 certificate in DER")]
pub struct RootsError {
    position: usize,
    what: &'static str,
}

impl TrustRoots {
    /// Checks that each certificate reads.
    ///
    /// # Errors
    /// [`RootsError`] with the position of the first that does not.
    pub fn new(authorities: Vec<Authority>) -> Result<Self, RootsError> {
        for (i, authority) in authorities.iter().enumerate() {
            let fault = |what| RootsError { position: i + 1, what };
            if authority.certificate.len() > CERTIFICATE_BYTES_MAX {
                return Err(fault("the certificate is larger than is allowed"));
            }
            parse(&authority.certificate).map_err(|_| fault("the certificate does not read"))?;
        }
        Ok(Self(authorities))
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there is none: then no EK counts as certified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The authority at which a chain ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedBy {
    /// Its subject, as text without control characters, of at most 512 bytes.
    pub issuer: String,
    /// SHA-256 of its certificate.
    pub certificate: Digest,
    /// What the authority certifies, and so what this TPM is.
    pub tpm: TpmKind,
}

/// A chain without fault.
#[derive(Debug)]
pub(super) enum ChainOutcome {
    /// It ends at a configured authority.
    Certified(CertifiedBy),
    /// It ends before one: `ek-chain`, if the admission rule needs a certificate.
    Unanchored(Refusal),
}

fn refuse(detail: impl AsRef<str>) -> Refusal {
    Refusal::new(Reason::EkChain, detail)
}

/// Checks the EK's certificate and its issuers: the certificate is this EK's and no CA's, with the key usage that fits
/// and the EK usage if it has any; each issuer is a CA that may sign certificates, within its path length; all are valid at
/// `now_unix_s`; every signature holds and none is SHA-1; nothing critical is left unread.
pub(super) fn check_chain(
    leaf: &[u8],
    issuers: &[Vec<u8>],
    ek: &TpmPublic,
    roots: &TrustRoots,
    now_unix_s: i64,
) -> Result<ChainOutcome, Refusal> {
    let leaf = parse(leaf).map_err(|what| malformed("the EK certificate", what))?;
    let mut pool = Vec::new();
    for issuer in issuers.iter().take(EK_CHAIN_MAX) {
        pool.push(parse(issuer).map_err(|what| malformed("a certificate of the EK's chain", what))?);
    }
    check_leaf(&leaf, ek)?;
    check_common("the EK certificate", &leaf, now_unix_s)?;
    let mut anchors = Vec::new();
    for authority in &roots.0 {
        anchors.push((authority, parse(&authority.certificate).map_err(|what| malformed("an authority", what))?));
    }
    climb(leaf, pool, &anchors, now_unix_s)
}

/// From the leaf to an authority, one issuer at a time; each certificate is used once, so this ends.
fn climb(
    leaf: X509Certificate<'_>,
    mut pool: Vec<X509Certificate<'_>>,
    anchors: &[(&Authority, X509Certificate<'_>)],
    now_unix_s: i64,
) -> Result<ChainOutcome, Refusal> {
    let mut current = leaf;
    // Intermediates below the next issuer that count for its path length: those that are not self-issued.
    let mut below = 0_u32;
    loop {
        let named = |candidate: &X509Certificate<'_>| candidate.subject().as_raw() == current.issuer().as_raw();
        if let Some((authority, anchor)) =
            anchors.iter().find(|(_, anchor)| named(anchor) && signed_by(&current, anchor))
        {
            check_issuer(anchor, below, now_unix_s, true)?;
            return Ok(ChainOutcome::Certified(certified_by(authority, anchor)));
        }
        let Some(position) = pool.iter().position(|issuer| named(issuer) && signed_by(&current, issuer)) else {
            let issuer = Name::lossy(&current.issuer().to_string());
            if anchors.iter().any(|(_, anchor)| named(anchor)) || pool.iter().any(named) {
                return Err(refuse(format!("the signature by `{issuer}` does not hold")));
            }
            let detail = format!("the chain ends at `{issuer}`, which is not configured: add it to the EK authorities");
            return Ok(ChainOutcome::Unanchored(refuse(detail)));
        };
        let issuer = pool.swap_remove(position);
        check_issuer(&issuer, below, now_unix_s, false)?;
        // A cross-signed copy of an authority ends the chain as well: the key is what is trusted.
        if let Some((authority, anchor)) =
            anchors.iter().find(|(_, anchor)| anchor.public_key().raw == issuer.public_key().raw)
        {
            check_issuer(anchor, below, now_unix_s, true)?;
            return Ok(ChainOutcome::Certified(certified_by(authority, anchor)));
        }
        below += u32::from(issuer.subject().as_raw() != issuer.issuer().as_raw());
        current = issuer;
    }
}

fn certified_by(authority: &Authority, certificate: &X509Certificate<'_>) -> CertifiedBy {
    CertifiedBy {
        issuer: Text::<DETAIL_BYTES_MAX>::lossy(&certificate.subject().to_string()).to_string(),
        certificate: Digest::of(&[&authority.certificate]),
        tpm: authority.kind,
    }
}

fn malformed(what: &str, why: &str) -> Refusal {
    Refusal::new(Reason::Malformed, format!("{what}: {why}"))
}

/// Reads a certificate; NV indices are often larger than what they hold, so padding of one byte's value may follow.
fn parse(der: &[u8]) -> Result<X509Certificate<'_>, &'static str> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| "not an X.509 certificate")?;
    let padding = rest.iter().all(|byte| *byte == 0) || rest.iter().all(|byte| *byte == 0xFF);
    if padding { Ok(certificate) } else { Err("bytes follow the certificate") }
}

fn signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    let algorithm = &certificate.signature_algorithm.algorithm;
    // ECDSA with SHA-1 is not implemented by the verifier of signatures, so it never holds.
    let is_sha1 = [registry::OID_PKCS1_SHA1WITHRSA, registry::OID_SHA1_WITH_RSA].contains(algorithm);
    !is_sha1
        && certificate.tbs_certificate.signature == certificate.signature_algorithm
        && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

/// Validity, and no critical extension that is not understood.
fn check_common(what: &str, certificate: &X509Certificate<'_>, now_unix_s: i64) -> Result<(), Refusal> {
    let validity = certificate.validity();
    if now_unix_s < validity.not_before.timestamp() || now_unix_s > validity.not_after.timestamp() {
        let detail = format!("{what} is valid from {} to {}: not now", validity.not_before, validity.not_after);
        return Err(refuse(detail));
    }
    let understood = [
        registry::OID_X509_EXT_BASIC_CONSTRAINTS,
        registry::OID_X509_EXT_KEY_USAGE,
        registry::OID_X509_EXT_EXTENDED_KEY_USAGE,
        registry::OID_X509_EXT_SUBJECT_ALT_NAME,
        registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
        registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
        registry::OID_X509_EXT_CERTIFICATE_POLICIES,
    ];
    let mut seen = BTreeSet::new();
    for extension in certificate.extensions() {
        if !seen.insert(extension.oid.as_bytes()) {
            return Err(refuse(format!("{what} has extension {} twice", extension.oid)));
        }
        if extension.critical && !understood.contains(&extension.oid) {
            return Err(refuse(format!(
                "{what} has the critical extension {}, which is not understood",
                extension.oid
            )));
        }
    }
    Ok(())
}

/// The EK's own certificate.
fn check_leaf(leaf: &X509Certificate<'_>, ek: &TpmPublic) -> Result<(), Refusal> {
    if !is_key_of(leaf.public_key(), ek.key()) {
        return Err(Refusal::new(Reason::EkMismatch, "the EK certificate is another key's than the endorsement key's"));
    }
    let unreadable = |_| refuse("an extension of the EK certificate does not read");
    if leaf.basic_constraints().map_err(unreadable)?.is_some_and(|constraints| constraints.value.ca) {
        return Err(refuse("the EK certificate is a CA's"));
    }
    let usage = leaf.key_usage().map_err(unreadable)?.map(|usage| usage.value);
    let fits = match ek.key() {
        KeyParameters::Rsa { .. } => usage.is_some_and(|usage| usage.key_encipherment()),
        KeyParameters::Ecc { .. } => usage.is_some_and(|usage| usage.key_agreement()),
    };
    if !fits || usage.is_some_and(|usage| usage.key_cert_sign()) {
        return Err(refuse(
            "the EK certificate's key usage is not that of an endorsement key (encipherment or agreement)",
        ));
    }
    // tcg-kp-EKCertificate
    let ek_usage = oid!(2.23.133.8.1);
    match leaf.extended_key_usage().map_err(unreadable)? {
        Some(usage) if !usage.value.other.contains(&ek_usage) => {
            Err(refuse("the EK certificate's extended key usage is not 2.23.133.8.1"))
        }
        _ => Ok(()),
    }
}

/// An issuer: a CA that may sign certificates, with at most `below` CAs under it. A configured authority may lack the
/// extensions (older roots do), but not contradict them.
fn check_issuer(issuer: &X509Certificate<'_>, below: u32, now_unix_s: i64, configured: bool) -> Result<(), Refusal> {
    let name = Name::lossy(&issuer.subject().to_string());
    check_common(&format!("the issuer `{name}`"), issuer, now_unix_s)?;
    let unreadable = |_| refuse(format!("an extension of the issuer `{name}` does not read"));
    let constraints = issuer.basic_constraints().map_err(unreadable)?.map(|constraints| constraints.value);
    if !constraints.map_or(configured, |constraints| constraints.ca) {
        return Err(refuse(format!("the issuer `{name}` is no CA")));
    }
    if constraints.and_then(|constraints| constraints.path_len_constraint).is_some_and(|longest| below > longest) {
        return Err(refuse(format!("the issuer `{name}` allows fewer CAs below it than there are")));
    }
    let usage = issuer.key_usage().map_err(unreadable)?.map(|usage| usage.value);
    if !usage.map_or(configured, |usage| usage.key_cert_sign()) {
        return Err(refuse(format!("the issuer `{name}` may not sign certificates")));
    }
    Ok(())
}

/// Whether the certificate's key is the TPM's: compared as numbers, since old certificates name RSA keys by the OID of
/// RSAES-OAEP.
fn is_key_of(certified: &SubjectPublicKeyInfo<'_>, key: &KeyParameters) -> bool {
    let algorithm = &certified.algorithm.algorithm;
    let bits = certified.subject_public_key.data.as_ref();
    match key {
        KeyParameters::Rsa { modulus, exponent, .. } => {
            let is_rsa = [registry::OID_PKCS1_RSAENCRYPTION, oid!(1.2.840.113549.1.1.7)].contains(algorithm);
            let same = |certified: &RSAPublicKey<'_>| {
                without_zeros(certified.modulus) == without_zeros(modulus)
                    && without_zeros(certified.exponent) == without_zeros(&exponent.to_be_bytes())
            };
            is_rsa && RSAPublicKey::from_der(bits).is_ok_and(|(rest, certified)| rest.is_empty() && same(&certified))
        }
        KeyParameters::Ecc { curve, point } => {
            let curve = match curve {
                Curve::P256 => registry::OID_EC_P256,
                Curve::P384 => registry::OID_NIST_EC_P384,
            };
            let named = certified.algorithm.parameters.as_ref().and_then(|named| named.as_oid().ok());
            *algorithm == registry::OID_KEY_TYPE_EC_PUBLIC_KEY && named == Some(curve) && bits == point.as_slice()
        }
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}
