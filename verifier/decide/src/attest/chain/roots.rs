//! The authorities at which a chain may end, and the intermediates that are known without being sent.

use std::collections::BTreeMap;

use quotary_common::envelope::Name;
use quotary_common::id::Digest;

use super::certificate::Stored;
use super::manufacturers::ManufacturerRoots;

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

/// An authority's certificate that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("EK authority {position} (counted from 1): {what}; give an X.509 certificate in DER")]
pub struct RootsError {
    pub(super) position: usize,
    pub(super) what: &'static str,
}

/// An authority, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) certificate: Stored,
    pub(super) kind: TpmKind,
    /// Whose chips it certifies, where a bundle says so.
    pub(super) manufacturer: Option<Name>,
}

/// Authorities whose EK certificates carry no extended key usage: Google's EK/AK CA Root (SHA-256 of its
/// SubjectPublicKeyInfo), known from the certificates that Compute Engine gives.
const WITHOUT_EK_USAGE: [&str; 1] = ["56a613f57126a385dd6949294e93b0b566f96ab0573be0c2368e6f5ca779831f"];

/// The configured authorities: each parses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustRoots {
    pub(super) anchors: Vec<Anchor>,
    pub(super) intermediates: Vec<Stored>,
    without_ek_usage: Vec<Digest>,
}

impl TrustRoots {
    /// Checks that each certificate reads.
    ///
    /// # Errors
    /// [`RootsError`] with the position of the first that does not.
    pub fn new(authorities: Vec<Authority>) -> Result<Self, RootsError> {
        let mut anchors = Vec::with_capacity(authorities.len());
        for (i, authority) in authorities.into_iter().enumerate() {
            let certificate =
                Stored::new(authority.certificate).map_err(|what| RootsError { position: i + 1, what })?;
            anchors.push(Anchor { certificate, kind: authority.kind, manufacturer: None });
        }
        Ok(Self { anchors, ..Self::default() })
    }
    /// Adds the manufacturers' authorities (hardware) and the intermediates under them. An authority that was configured
    /// keeps what the configuration says of it.
    #[must_use]
    pub fn with_manufacturers(mut self, manufacturers: &ManufacturerRoots) -> Self {
        self.anchors.extend(manufacturers.anchors.iter().cloned());
        self.with_intermediates_of(manufacturers)
    }
    /// Adds the manufacturers' intermediates only: they are no authorities, but need not be sent then.
    #[must_use]
    pub fn with_intermediates_of(mut self, manufacturers: &ManufacturerRoots) -> Self {
        self.intermediates.extend(manufacturers.intermediates.iter().cloned());
        self
    }
    /// Accepts EK certificates without the usage 2.23.133.8.1 under this authority (SHA-256 of the
    /// SubjectPublicKeyInfo of any CA of the chain). Google's EK/AK CA Root is always excepted.
    #[must_use]
    pub fn with_usage_exception(mut self, authority_spki: Digest) -> Self {
        self.without_ek_usage.push(authority_spki);
        self
    }
    /// What each authority certifies, by SHA-256 of its SubjectPublicKeyInfo ([`super::CertifiedBy::authority_spki`]): a
    /// certificate that was issued anew for the same key stands for the old one. Of one that is there twice, the first
    /// counts, as in a chain.
    pub fn by_key(&self) -> BTreeMap<Digest, TpmKind> {
        self.anchors.iter().rev().map(|anchor| (anchor.certificate.spki, anchor.kind)).collect()
    }
    /// Whether certificates under this CA may lack the EK usage.
    pub(super) fn excepts_usage(&self, spki: &Digest) -> bool {
        self.without_ek_usage.contains(spki) || WITHOUT_EK_USAGE.contains(&spki.hex().as_str())
    }
}
