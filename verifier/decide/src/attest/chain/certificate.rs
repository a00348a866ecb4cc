//! One certificate: read leniently, kept as it came, told in words.

use quotary_common::cbor::Text;
use quotary_common::id::Digest;
use quotary_common::limits::{CERTIFICATE_BYTES_MAX, DETAIL_BYTES_MAX, EK_CHAIN_MAX};
use serde::Serialize;
use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use super::key;
use super::signature;

/// What a certificate of a chain says, for explanations: the leaf's first, the authority's last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainCertificate {
    /// Its subject, as text without control characters, of at most 512 bytes; empty where it has none.
    pub subject: String,
    /// Its issuer, likewise.
    pub issuer: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Start of its validity, Unix seconds.
    pub not_before_unix_s: i64,
    /// End of its validity, Unix seconds.
    pub not_after_unix_s: i64,
    /// Its key: `rsa-2048`, `ecc-p256`, or `other`.
    pub key: String,
    /// The algorithm of the signature on it: `rsassa-sha256`, `ecdsa-sha384`, or the object identifier.
    pub signature: String,
    /// Whether it says that it is a CA's.
    pub ca: bool,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Whether it is the configured authority at which the chain ends.
    pub authority: bool,
}

impl ChainCertificate {
    pub(super) fn of(certificate: &X509Certificate<'_>, authority: bool) -> Self {
        let text = |name: String| Text::<DETAIL_BYTES_MAX>::lossy(&name).to_string();
        let constraints = certificate.basic_constraints().ok().flatten();
        Self {
            subject: text(certificate.subject().to_string()),
            issuer: text(certificate.issuer().to_string()),
            serial: data_encoding::HEXLOWER.encode(certificate.tbs_certificate.raw_serial()),
            not_before_unix_s: certificate.validity().not_before.timestamp(),
            not_after_unix_s: certificate.validity().not_after.timestamp(),
            key: key::name(certificate.public_key()),
            signature: text(signature::name(&certificate.signature_algorithm)),
            ca: constraints.is_some_and(|constraints| constraints.value.ca),
            sha256: Digest::of(&[certificate.as_raw()]),
            authority,
        }
    }
}

/// A certificate that is kept: its bytes as they came, and what it is looked up by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) der: Vec<u8>,
    /// Its subject, as names are compared ([`name_key`]).
    pub(super) subject: Vec<u8>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub(super) spki: Digest,
}

impl Stored {
    pub(super) fn new(der: Vec<u8>) -> Result<Self, &'static str> {
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err("the certificate is larger than is allowed");
        }
        let certificate = parse(&der)?;
        let (subject, spki) = (name_key(certificate.subject()), Digest::of(&[certificate.public_key().raw]));
        Ok(Self { der, subject, spki })
    }
}

/// What two names have in common when they are the same (RFC 5280, 7.1): the attributes in order, and their text whether
/// it is a PrintableString or a UTF8String, since a manufacturer's intermediates spell their issuer with the other one.
/// Case and spaces count: nobody needs more.
pub(super) fn name_key(name: &X509Name<'_>) -> Vec<u8> {
    let mut key = Vec::new();
    for set in name.iter_rdn() {
        key.push(0);
        for attribute in set.iter() {
            let value = attribute.attr_value();
            let tag = if value.tag() == Tag::PrintableString { Tag::Utf8String } else { value.tag() };
            key.push(1);
            for part in [attribute.attr_type().as_bytes(), &tag.0.to_be_bytes(), value.data] {
                // Certificates are shorter than 64 KiB, so each part has a length of its own.
                key.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
                key.extend_from_slice(part);
            }
        }
    }
    key
}

/// Reads a certificate; NV indices are often larger than what they hold, so padding of one byte's value may follow.
/// The order of sets is not checked: some manufacturers' roots have it wrong.
pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, &'static str> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| "not an X.509 certificate")?;
    let padding = rest.iter().all(|byte| *byte == 0) || rest.iter().all(|byte| *byte == 0xFF);
    if padding { Ok(certificate) } else { Err("bytes follow the certificate") }
}

/// Certificates one after the other that do not come apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("certificates one after the other: at byte {offset}: {what}")]
pub struct SplitError {
    offset: usize,
    what: &'static str,
}

/// Takes DER certificates apart that stand one after the other, as on-die CA chains do in the NV indices 0x01c00100 to
/// 0x01c001ff (TCG EK Credential Profile 2.x, 2.2.1.5.2). Padding of 0x00 or 0xFF may stand between and after them. Each
/// certificate comes back exactly as it stands; only its frame was looked at.
///
/// # Errors
/// [`SplitError`] with the offset: something else than a certificate's frame, one that is cut off or larger than
/// [`CERTIFICATE_BYTES_MAX`], or more than [`EK_CHAIN_MAX`].
pub fn split_der_certificates(bytes: &[u8]) -> Result<Vec<&[u8]>, SplitError> {
    let mut found = Vec::new();
    let mut offset = 0;
    loop {
        let rest = bytes.get(offset..).unwrap_or_default();
        let padding = rest.iter().take_while(|byte| [0, 0xFF].contains(*byte)).count();
        offset += padding;
        let rest = rest.get(padding..).unwrap_or_default();
        let fault = |what| SplitError { offset, what };
        if rest.is_empty() {
            return Ok(found);
        }
        if found.len() == EK_CHAIN_MAX {
            return Err(fault("more certificates than a chain may have"));
        }
        let length = frame_bytes(rest).map_err(fault)?;
        found.push(rest.get(..length).ok_or_else(|| fault("the certificate is cut off"))?);
        offset += length;
    }
}

/// Bytes of the `SEQUENCE` that starts here, its tag and length included.
fn frame_bytes(der: &[u8]) -> Result<usize, &'static str> {
    let (content, head) = match der {
        [0x30, short @ 0..=0x7F, ..] => (usize::from(*short), 2),
        [0x30, 0x81, a, ..] => (usize::from(*a), 3),
        [0x30, 0x82, a, b, ..] => (usize::from(u16::from_be_bytes([*a, *b])), 4),
        _ => return Err("no certificate starts here"),
    };
    if head + content > CERTIFICATE_BYTES_MAX {
        Err("the certificate is larger than is allowed")
    } else {
        Ok(head + content)
    }
}
