//! What is checked before any signature: all of it cheap.

use quotary_common::cbor::CborError;
use quotary_common::envelope::ClaimedEnvelope;
use quotary_common::evidence::Evidence;
use quotary_common::id::{DeploymentId, Digest, HostId};
use quotary_common::limits::{ATTEST_BYTES_MAX, EVIDENCE_BYTES_MAX, SIGNATURE_BYTES_MAX};
use quotary_common::nonce::{Nonce, NonceFault, NonceKey, NonceScope};
use quotary_common::reason::{Reason, Refusal};

use super::EnrolledHost;

/// Evidence as it arrived, and over what.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The verifier's own deployment.
    pub deployment: DeploymentId,
    /// The host whose route was called.
    pub host: HostId,
    /// SHA-256 of the SubjectPublicKeyInfo of the connection's TLS client key.
    pub tls_key: Digest,
    /// The bytes.
    pub evidence: &'a [u8],
}

/// Evidence that passed every check before the signature.
#[derive(Debug, Clone)]
pub(super) struct Decoded {
    pub(super) bytes: Vec<u8>,
    /// Its envelope's bytes went into `envelope`.
    pub(super) evidence: Evidence,
    pub(super) envelope: ClaimedEnvelope,
}

/// Evidence whose sequence follows the last committed and whose nonce holds: it goes to [`super::verify`].
#[derive(Debug, Clone)]
pub struct NextEvidence(pub(super) Decoded);

/// Evidence whose sequence was committed before, with other bytes: it goes, rate-capped, to
/// [`super::verify_out_of_order`].
#[derive(Debug, Clone)]
pub struct OutOfOrderEvidence(pub(super) Decoded);

/// The envelope that was committed last, sent again over the enrolled TLS key: the stored reply is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepeatedEvidence {
    sequence: u64,
    envelope: Digest,
}

/// What evidence is, before its signature was looked at.
#[derive(Debug, Clone)]
pub enum Prechecked {
    /// The next of its chain.
    Next(Box<NextEvidence>),
    /// Not the next: a replay, a late copy, or a fork.
    OutOfOrder(Box<OutOfOrderEvidence>),
    /// The last committed once more.
    Repeat(RepeatedEvidence),
}

impl NextEvidence {
    /// Its claimed envelope.
    pub fn envelope(&self) -> &ClaimedEnvelope {
        &self.0.envelope
    }
}

impl OutOfOrderEvidence {
    /// Its claimed sequence number: the caller looks up which envelope was committed under it.
    pub fn sequence(&self) -> u64 {
        self.0.envelope.claims().sequence
    }
    /// SHA-256 of its claimed envelope.
    pub fn envelope_digest(&self) -> Digest {
        self.0.envelope.digest()
    }
    /// The refusal for evidence that the rate cap keeps from its signature check.
    pub fn refuse_unverified(&self) -> Refusal {
        stale(format!("sequence {} is already committed", self.sequence()))
    }
}

impl RepeatedEvidence {
    /// The committed sequence number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
    /// SHA-256 of the committed envelope.
    pub fn envelope_digest(&self) -> Digest {
        self.envelope
    }
}

pub(super) fn stale(detail: impl AsRef<str>) -> Refusal {
    Refusal::new(Reason::SequenceStale, detail)
}

/// Checks, in this order: bounds, known host, the connection's TLS key, canonical form, the envelope's deployment,
/// host and TLS key, sequence, nonce. `host` is the record of [`Arrival::host`], if there is one; `now_ms` is Unix
/// time. An envelope for another deployment is `unknown-host`: no host of this deployment made it.
///
/// # Errors
/// A [`Refusal`]: `too-large`, `unknown-host`, `tls-key`, `malformed`, `sequence-stale` (ahead of the next),
/// `nonce-unknown` or `nonce-expired`.
pub fn precheck(
    arrival: &Arrival<'_>,
    host: Option<&EnrolledHost>,
    nonce_key: &NonceKey,
    now_ms: u64,
) -> Result<Prechecked, Refusal> {
    check_size("the evidence", arrival.evidence.len(), EVIDENCE_BYTES_MAX)?;
    let host = host.filter(|host| host.host == arrival.host).ok_or_else(|| {
        Refusal::new(Reason::UnknownHost, format!("host {} is not enrolled: enrol it with a join token", arrival.host))
    })?;
    if arrival.tls_key != host.tls_key {
        return Err(Refusal::new(
            Reason::TlsKey,
            format!("the connection's key is not the one {} enrolled", host.host),
        ));
    }
    let decoded = decode(arrival.evidence)?;
    check_addressee(arrival, &decoded.envelope)?;
    place_in_chain(decoded, arrival, host, nonce_key, now_ms)
}

fn check_size(what: &str, bytes: usize, bytes_max: usize) -> Result<(), Refusal> {
    if bytes > bytes_max {
        return Err(Refusal::new(Reason::TooLarge, format!("{what}: {bytes} bytes, at most {bytes_max} are allowed")));
    }
    Ok(())
}

/// Reads evidence and envelope without any trust in them.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, Refusal> {
    let mut evidence = Evidence::from_bytes(bytes).map_err(|error| form("the evidence", &error))?;
    check_size("the quote", evidence.attest.len(), ATTEST_BYTES_MAX)?;
    check_size("the quote's signature", evidence.signature.len(), SIGNATURE_BYTES_MAX)?;
    let envelope = std::mem::take(&mut evidence.envelope);
    let envelope = ClaimedEnvelope::parse(envelope).map_err(|error| form("the envelope", &error))?;
    Ok(Decoded { bytes: bytes.to_vec(), evidence, envelope })
}

fn form(what: &str, error: &CborError) -> Refusal {
    let reason = if matches!(error, CborError::TooLarge { .. }) { Reason::TooLarge } else { Reason::Malformed };
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    Refusal::new(reason, format!("{what}: {error}{source}"))
}

/// The envelope is meant for this deployment, speaks for the host of the route, and names the TLS key it came over.
fn check_addressee(arrival: &Arrival<'_>, envelope: &ClaimedEnvelope) -> Result<(), Refusal> {
    let claims = envelope.claims();
    if claims.deployment != arrival.deployment {
        let detail =
            format!("the envelope is meant for deployment {}, this is {}", claims.deployment, arrival.deployment);
        return Err(Refusal::new(Reason::UnknownHost, detail));
    }
    if claims.host != arrival.host {
        let detail = format!("the envelope speaks for {} over the TLS key of {}", claims.host, arrival.host);
        return Err(Refusal::new(Reason::TlsKey, detail));
    }
    if claims.tls_key != arrival.tls_key {
        return Err(Refusal::new(Reason::TlsKey, "the envelope names another TLS key than the connection's"));
    }
    Ok(())
}

fn place_in_chain(
    decoded: Decoded,
    arrival: &Arrival<'_>,
    host: &EnrolledHost,
    nonce_key: &NonceKey,
    now_ms: u64,
) -> Result<Prechecked, Refusal> {
    let (sequence, committed) = (decoded.envelope.claims().sequence, host.committed.sequence);
    if sequence == 0 || sequence > committed.saturating_add(1) {
        return Err(stale(format!("sequence {sequence} came, the next is {}", committed.saturating_add(1))));
    }
    if sequence == committed && decoded.envelope.digest() == host.committed.envelope {
        return Ok(Prechecked::Repeat(RepeatedEvidence { sequence, envelope: host.committed.envelope }));
    }
    if sequence <= committed {
        return Ok(Prechecked::OutOfOrder(Box::new(OutOfOrderEvidence(decoded))));
    }
    let scope = NonceScope { deployment: arrival.deployment, host: host.host, committed_sequence: committed };
    match nonce_key.check(&scope, &Nonce::new(decoded.evidence.nonce), now_ms) {
        Ok(()) => Ok(Prechecked::Next(Box::new(NextEvidence(decoded)))),
        Err(NonceFault::Unknown) => {
            Err(Refusal::new(Reason::NonceUnknown, format!("not a nonce for {} after sequence {committed}", host.host)))
        }
        Err(NonceFault::Expired) => Err(Refusal::new(Reason::NonceExpired, "the nonce is too old: ask for another")),
    }
}
