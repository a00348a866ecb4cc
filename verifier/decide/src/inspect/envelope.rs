//! An envelope's claims: nothing of them is proven without a quote that covers the envelope.

use quotary_common::envelope::ClaimedEnvelope;
use quotary_common::id::{BootId, DeploymentId, Digest, HostId};
use serde::Serialize;

use super::InspectError;

/// An envelope in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvelopeReport {
    /// SHA-256 of the canonical bytes: what a quote's `extraData` covers together with the nonce.
    pub digest: Digest,
    /// How many bytes it has.
    pub bytes: usize,
    /// The deployment that it is meant for.
    pub deployment: DeploymentId,
    /// The host that it says it is of.
    pub host: HostId,
    /// The kernel's boot id.
    pub boot_id: BootId,
    /// Its place in the host's chain.
    pub sequence: u64,
    /// SHA-256 of the envelope before it.
    pub predecessor: Digest,
    /// SHA-256 of the SubjectPublicKeyInfo of the agent's TLS key.
    pub tls_key: Digest,
    /// The size of the last audit checkpoint that the agent saw.
    pub checkpoint_size: Option<u64>,
    /// The agent's version.
    pub agent_version: String,
    /// `CLOCK_BOOTTIME` when it was built, ms.
    pub built_at_ms: u64,
    /// The name that the host says it has.
    pub hostname: String,
    /// The kernel release that it says it runs.
    pub kernel: String,
    /// How many host windows it carries.
    pub host_windows: usize,
    /// How many applications it reports.
    pub applications: usize,
    /// How many events it reports.
    pub events: usize,
    /// How many enforcement writes it reports.
    pub writes: usize,
    /// How many requests wait.
    pub requests: usize,
    /// How many grants are held.
    pub held: usize,
}

/// Reads canonical bytes and says what they claim.
///
/// # Errors
/// [`InspectError::Envelope`] when they are too many or not the canonical form.
pub fn envelope(bytes: &[u8]) -> Result<EnvelopeReport, InspectError> {
    let envelope = ClaimedEnvelope::parse(bytes)?;
    let claims = envelope.claims();
    Ok(EnvelopeReport {
        digest: envelope.digest(),
        bytes: bytes.len(),
        deployment: claims.deployment,
        host: claims.host,
        boot_id: claims.boot_id,
        sequence: claims.sequence,
        predecessor: claims.predecessor,
        tls_key: claims.tls_key,
        checkpoint_size: claims.checkpoint.map(|checkpoint| checkpoint.size),
        agent_version: claims.agent_version.to_string(),
        built_at_ms: claims.built_at_ms,
        hostname: claims.facts.hostname.to_string(),
        kernel: claims.facts.kernel.to_string(),
        host_windows: claims.host_windows.len(),
        applications: claims.applications.len(),
        events: claims.events.len(),
        writes: claims.writes.len(),
        requests: claims.requests.len(),
        held: claims.held.len(),
    })
}
