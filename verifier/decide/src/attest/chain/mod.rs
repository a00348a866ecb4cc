//! EK certificate chains: lenient about DER, strict about the chain (TCG EK Credential Profile 2.x; RFC 5280, 6.1).
//!
//! Does: builds and checks the chain from an EK's certificate to a configured authority or a TPM manufacturer's
//! ([`ManufacturerRoots`]), with intermediates that are sent along, shipped, or read from NV ([`split_der_certificates`]).
//! May assume: that the authorities are what the operator trusts; nothing about certificates of an agent.
//! Promises: vendors' certificates that are not quite DER are used as they came, and their signatures checked over the
//! very bytes; the same input ends the same way, within a fixed number of signature checks; SHA-1 never holds.
//! Must never: take an EK's certificate for a CA's, an AK's certificate for an EK's, or an agent's word for what its TPM is.

mod certificate;
mod fault;
mod key;
mod manufacturers;
mod path;
mod pem;
mod roots;
mod rules;
mod signature;

#[cfg(test)]
mod tests;

use quotary_common::id::Digest;
use quotary_common::limits::EK_CHAIN_MAX;
use quotary_common::reason::Refusal;
use quotary_common::tpm::{KeyParameters, TpmPublic};

use certificate::{Stored, parse};
use path::Climb;
use rules::{EkUsage, check_common, check_leaf};

pub use certificate::{ChainCertificate, SplitError, split_der_certificates};
pub use fault::ChainFault;
pub use manufacturers::ManufacturerRoots;
pub use roots::{Authority, RootsError, TpmKind, TrustRoots};

pub(crate) use key::from_spki_der;
pub(crate) use pem::{blocks as pem_blocks, is_pem};

/// The authority at which a chain ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedBy {
    /// Its subject, as text without control characters, of at most 512 bytes.
    pub issuer: String,
    /// SHA-256 of its certificate.
    pub certificate: Digest,
    /// What the authority certifies, and so what this TPM is.
    pub tpm: TpmKind,
    /// Whose chips the authority certifies: only where it is one of the manufacturers' bundle.
    pub manufacturer: Option<String>,
    /// The chain: the EK's certificate first, the authority's last.
    pub chain: Vec<ChainCertificate>,
}

/// A chain without fault.
#[derive(Debug)]
pub(super) enum ChainOutcome {
    /// It ends at a configured authority.
    Certified(CertifiedBy),
    /// It ends before one: `ek-chain`, if the admission rule needs a certificate.
    Unanchored(Refusal),
}

/// What is asked of certificates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChainQuestion<'a> {
    /// The EK's certificate.
    pub(crate) leaf: &'a [u8],
    /// Others that came along, in any order.
    pub(crate) issuers: &'a [&'a [u8]],
    /// The TPM's key, where it is known: an auditor who has only files does not have it.
    pub(crate) ek: Option<&'a KeyParameters>,
    /// Unix seconds.
    pub(crate) now_unix_s: i64,
}

/// What certificates prove, and as much of their chain as holds.
#[derive(Debug)]
pub(crate) struct Examination {
    /// From the leaf up; to the authority when there is one.
    pub(crate) chain: Vec<ChainCertificate>,
    pub(crate) outcome: Result<CertifiedBy, ChainFault>,
}

/// Checks the EK's certificate and its issuers: the certificate is this EK's and no CA's, with the key usage that fits
/// and the EK usage (few issuers are excepted, and another usage never passes); each issuer is a CA that may sign
/// certificates, within its path length; all are valid; every signature holds and none is SHA-1; nothing critical is left
/// unread.
pub(crate) fn examine(question: &ChainQuestion<'_>, roots: &TrustRoots) -> Examination {
    let mut chain = Vec::new();
    let outcome = climb(question, roots, &mut chain);
    Examination { outcome: outcome.map(|by| CertifiedBy { chain: chain.clone(), ..by }), chain }
}

fn climb(
    question: &ChainQuestion<'_>,
    roots: &TrustRoots,
    chain: &mut Vec<ChainCertificate>,
) -> Result<CertifiedBy, ChainFault> {
    let leaf = parse(question.leaf).map_err(|why| malformed("the EK certificate", why))?;
    chain.push(ChainCertificate::of(&leaf, false));
    let mut sent = Vec::new();
    for issuer in question.issuers.iter().take(EK_CHAIN_MAX) {
        let read = Stored::new(issuer.to_vec()).map_err(|why| malformed("a certificate of the EK's chain", why))?;
        sent.push(read);
    }
    let usage = check_leaf(&leaf, question.ek)?;
    check_common("the EK certificate", &leaf, question.now_unix_s)?;
    let climbed = Climb::new(leaf, roots, question.now_unix_s).run(&sent);
    *chain = climbed.chain;
    let anchor = climbed.end?;
    if usage == EkUsage::Absent && !climbed.issuer_keys.iter().any(|key| roots.excepts_usage(key)) {
        let detail = "the EK certificate has no extended key usage 2.23.133.8.1, and its issuer is not excepted";
        return Err(ChainFault::Chain(detail.to_owned()));
    }
    Ok(CertifiedBy {
        issuer: chain.last().map(|authority| authority.subject.clone()).unwrap_or_default(),
        certificate: Digest::of(&[&anchor.certificate.der]),
        tpm: anchor.kind,
        manufacturer: anchor.manufacturer.as_ref().map(ToString::to_string),
        chain: Vec::new(),
    })
}

/// [`examine`] for an enrolment. What came along beside the EK's certificate is what stood in the TPM's NV memory: bytes
/// that are no certificate there take nothing from a chain that does not need them.
pub(super) fn check_chain(
    leaf: &[u8],
    issuers: &[Vec<u8>],
    ek: &TpmPublic,
    roots: &TrustRoots,
    now_unix_s: i64,
) -> Result<ChainOutcome, Refusal> {
    let readable = issuers.iter().map(Vec::as_slice).filter(|issuer| Stored::new(issuer.to_vec()).is_ok());
    let issuers: Vec<&[u8]> = readable.collect();
    let question = ChainQuestion { leaf, issuers: &issuers, ek: Some(ek.key()), now_unix_s };
    match examine(&question, roots).outcome {
        Ok(by) => Ok(ChainOutcome::Certified(by)),
        Err(fault) if fault.is_only_uncertified() => Ok(ChainOutcome::Unanchored(fault.into())),
        Err(fault) => Err(fault.into()),
    }
}

fn malformed(what: &str, why: &str) -> ChainFault {
    ChainFault::Malformed(format!("{what}: {why}"))
}
