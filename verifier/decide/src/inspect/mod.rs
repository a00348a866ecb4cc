//! The bodies of the offline verbs `quotary inspect quote`, `inspect ek` and `inspect envelope`.
//!
//! Does: judges files that an auditor has, without a server: [`quote()`], [`ek()`], [`envelope()`].
//! May assume: nothing of the bytes; that the caller read no more than it must, and prints what comes back.
//! Promises: pure, total and bounded; the same code as the verifier's own decides; a report always says why with fixed
//! codes ([`Finding`]); a file that cannot be taken for what it should be is an [`InspectError`], not a verdict.
//! Must never: report a PCR value that no signature covers, or take PCR numbers from elsewhere than the signed selection.

mod ak;
mod claims;
mod ek;
mod envelope;
mod pcrs;
mod quote;

#[cfg(test)]
mod tests;

use quotary_common::cbor::{CborError, Text};
use quotary_common::limits::DETAIL_BYTES_MAX;
use quotary_common::reason::{Reason, Refusal};
use serde::Serialize;

pub use claims::claims_json;
pub use ek::{EkReport, TpmReport, ek};
pub use envelope::{EnvelopeReport, envelope};
pub use pcrs::{PCRS_BYTES_MAX, SuppliedPcrs, serialize_pcrs};
pub use quote::{AttestReport, BankReport, InspectQuote, QuoteReport, quote};

/// Why something is refused: a fixed code and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A reason code of wire.md, or `ek-algorithm`.
    pub code: &'static str,
    /// What, where and what to do; at most 512 bytes without control characters.
    pub detail: String,
}

impl Finding {
    fn new(code: &'static str, detail: impl AsRef<str>) -> Self {
        Self { code, detail: Text::<DETAIL_BYTES_MAX>::lossy(detail.as_ref()).to_string() }
    }
    fn of(reason: Reason, detail: impl AsRef<str>) -> Self {
        Self::new(reason.code(), detail)
    }
}

impl From<Refusal> for Finding {
    fn from(refusal: Refusal) -> Self {
        Self::of(refusal.reason, refusal.detail.to_string())
    }
}

/// A file that cannot be taken for what it should be, or files that do not go together.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The attestation key.
    #[error(
        "the attestation key does not read: {0}; give a SubjectPublicKeyInfo in PEM, a TPM2B_PUBLIC or a TPMT_PUBLIC"
    )]
    Ak(String),
    /// A file is empty, or larger than such a file can be.
    #[error("{what}: {bytes} bytes, 1 to {bytes_max} are possible")]
    Size {
        /// Which file.
        what: &'static str,
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        bytes_max: usize,
    },
    /// The envelope.
    #[error("the envelope does not read: {0}")]
    Envelope(#[from] CborError),
    /// An envelope without a nonce of 32 bytes.
    #[error("with an envelope the nonce must be given, and be 32 bytes long")]
    EnvelopeNonce,
    /// Certificates.
    #[error("{what}: {why}; give certificates in PEM or DER")]
    Certificate {
        /// Which file.
        what: String,
        /// What is wrong.
        why: String,
    },
}
