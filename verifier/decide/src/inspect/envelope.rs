//! An envelope's claims: nothing of them is proven without a quote that covers the envelope.

use quotary_common::envelope::ClaimedEnvelope;
use quotary_common::id::Digest;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{InspectError, claims_json};

/// An envelope: what it is, and all that it claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvelopeReport {
    /// SHA-256 of the canonical bytes: what a quote's `extraData` covers together with the nonce.
    pub digest: Digest,
    /// How many bytes it has.
    pub bytes: usize,
    /// The claims, beside the two above: see [`claims_json`].
    #[serde(flatten)]
    pub claims: Map<String, Value>,
}

/// Reads canonical bytes and says what they claim.
///
/// # Errors
/// [`InspectError::Envelope`] when they are too many or not the canonical form.
pub fn envelope(bytes: &[u8]) -> Result<EnvelopeReport, InspectError> {
    let envelope = ClaimedEnvelope::parse(bytes)?;
    let claims = claims_json(envelope.claims());
    Ok(EnvelopeReport { digest: envelope.digest(), bytes: bytes.len(), claims })
}
