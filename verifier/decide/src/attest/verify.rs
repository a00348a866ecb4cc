//! The checks from the signature on, in the order of design §5.

use std::sync::OnceLock;

use quotary_common::cbor::BoundedBytes;
use quotary_common::envelope::{ClaimedEnvelope, Envelope};
use quotary_common::evidence::{Evidence, ImaIncrement, PcrValue};
use quotary_common::id::Digest;
use quotary_common::limits::{BOOT_LOG_BYTES_MAX, MEASURE_LOG_BYTES_MAX};
use quotary_common::nonce::Nonce;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::tpm::PcrSelection;

use super::precheck::{Decoded, stale};
use super::quote::{ProvenQuote, covered_quote, prove_quote};
use super::{ClockPosition, Committed, EnrolledHost, NextEvidence, OutOfOrderEvidence};

/// What was noticed in evidence that holds: told to operators, no ground for a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// `safe` is 0: the TPM lost power without a shutdown, so a greater clock may have been reported in the same boot.
    ClockUnsafe,
    /// The TPM was reset (the host booted) since the last committed evidence.
    Rebooted,
    /// The TPM was restarted or resumed since then.
    Resumed,
}

/// The logs beside a quote: boot log, part of the IMA list, measure log.
type Logs =
    (Option<BoundedBytes<BOOT_LOG_BYTES_MAX>>, Option<ImaIncrement>, Option<BoundedBytes<MEASURE_LOG_BYTES_MAX>>);

/// Evidence that holds: made only by [`verify`]. (For a dry run it is made of what is kept, and stays inside
/// [`super::RecordedEvidence`].)
#[derive(Debug, Clone)]
pub struct VerifiedEvidence {
    envelope: ClaimedEnvelope,
    bytes: Vec<u8>,
    evidence_digest: OnceLock<Digest>,
    nonce: Nonce,
    clock: ClockPosition,
    firmware_version: u64,
    findings: Vec<Finding>,
    pcr_values: Vec<PcrValue>,
    boot_log: Option<BoundedBytes<BOOT_LOG_BYTES_MAX>>,
    ima: Option<ImaIncrement>,
    measure_log: Option<BoundedBytes<MEASURE_LOG_BYTES_MAX>>,
}

impl VerifiedEvidence {
    /// What the envelope states. It is bound to this TPM and to the time between the nonce's issue and its receipt;
    /// whether the numbers are true, no quote can prove.
    pub fn claims(&self) -> &Envelope {
        self.envelope.claims()
    }
    /// The envelope with the bytes that the quote covers.
    pub fn envelope(&self) -> &ClaimedEnvelope {
        &self.envelope
    }
    /// SHA-256 of the envelope: the predecessor that the next must name.
    pub fn envelope_digest(&self) -> Digest {
        self.envelope.digest()
    }
    /// SHA-256 of the evidence: the name under which it is kept, and which a grant set answers.
    pub fn evidence_digest(&self) -> Digest {
        // No check needs it, so it is made where the evidence is kept.
        *self.evidence_digest.get_or_init(|| Evidence::digest(&self.bytes))
    }
    /// The evidence as it came, to be kept.
    pub fn evidence_bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// The nonce that the quote covers.
    pub fn nonce(&self) -> Nonce {
        self.nonce
    }
    /// The TPM's place in its own time.
    pub fn clock(&self) -> ClockPosition {
        self.clock
    }
    /// The TPM's firmware version, as its vendor counts.
    pub fn firmware_version(&self) -> u64 {
        self.firmware_version
    }
    /// What was noticed.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
    /// The PCR values, proven by the signed digest.
    pub fn pcr_values(&self) -> &[PcrValue] {
        &self.pcr_values
    }
    /// The boot log that came with it. The quote does not cover it: it must replay to the PCR values.
    pub fn boot_log(&self) -> Option<&[u8]> {
        self.boot_log.as_deref()
    }
    /// The part of the IMA list that came with it; the same holds of it.
    pub fn ima(&self) -> Option<&ImaIncrement> {
        self.ima.as_ref()
    }
    /// Of evidence that was verified before: what followed from its place in the chain is left out.
    pub(super) fn recorded(
        (bytes, envelope, nonce): (Vec<u8>, ClaimedEnvelope, [u8; 32]),
        quote: ProvenQuote,
        (boot_log, ima, measure_log): Logs,
    ) -> Self {
        Self {
            evidence_digest: OnceLock::new(),
            bytes,
            nonce: Nonce::new(nonce),
            clock: ClockPosition::from(quote.clock()),
            firmware_version: quote.firmware_version(),
            findings: Vec::new(),
            pcr_values: quote.into_pcr_values(),
            envelope,
            boot_log,
            ima,
            measure_log,
        }
    }
    /// What it brought of the IMA list is known already, up to this offset: nothing is left of it that would be new.
    pub(super) fn ima_taken(&mut self, offset_bytes: u64) {
        if let Some(ima) = &mut self.ima {
            let form = ima.form;
            *ima = ImaIncrement { form, offset_bytes, bytes: BoundedBytes::default(), has_more: true };
        }
    }
    /// The measure log that came with it; the same holds of it.
    pub fn measure_log(&self) -> Option<&[u8]> {
        self.measure_log.as_deref()
    }
    /// What a host's record holds once this is committed.
    pub fn committed(&self) -> Committed {
        Committed { sequence: self.claims().sequence, envelope: self.envelope_digest(), clock: Some(self.clock) }
    }
}

/// Checks evidence that is the next of its chain: signature over the raw bytes, magic and type, `qualifiedSigner`,
/// `extraData`, PCR selection both ways (`required` is what came with the nonce), PCR digest, clock, chain.
/// `host` must be the record that [`super::precheck`] saw, or a later one: another host, or a record that moved on
/// meanwhile, is refused as `sequence-stale`.
///
/// # Errors
/// A [`Refusal`]: those of [`prove_quote`], `clock-backward`, `chain-forked` or `sequence-stale`.
pub fn verify(
    evidence: NextEvidence,
    host: &EnrolledHost,
    required: &PcrSelection,
) -> Result<VerifiedEvidence, Refusal> {
    let Decoded { bytes, mut evidence, envelope } = evidence.0;
    let (boot_log, ima, measure_log) = (evidence.boot_log.take(), evidence.ima.take(), evidence.measure_log.take());
    let claims = envelope.claims();
    if claims.host != host.host || Some(claims.sequence) != host.committed.sequence.checked_add(1) {
        return Err(stale(format!("sequence {} is no longer the next of {}", claims.sequence, host.host)));
    }
    let nonce = Nonce::new(evidence.nonce);
    let quote = prove_quote(evidence, &envelope.digest(), host.signer(), required)?;
    let clock = ClockPosition::from(quote.clock());
    check_clock(clock, host.committed.clock)?;
    if claims.predecessor != host.committed.envelope {
        let detail = format!(
            "sequence {} follows another envelope than the committed one: two chains are signed by one TPM",
            claims.sequence
        );
        return Err(Refusal::new(Reason::ChainForked, detail));
    }
    Ok(VerifiedEvidence {
        evidence_digest: OnceLock::new(),
        bytes,
        nonce,
        clock,
        firmware_version: quote.firmware_version(),
        findings: findings(quote.clock().safe, clock, host.committed.clock),
        pcr_values: quote.into_pcr_values(),
        envelope,
        boot_log,
        ima,
        measure_log,
    })
}

/// (resetCount, restartCount, clock) must increase: two quotes of one TPM never share a place.
fn check_clock(now: ClockPosition, last: Option<ClockPosition>) -> Result<(), Refusal> {
    match last {
        Some(last) if now <= last => {
            let detail = format!(
                "reset {} restart {} clock {} ms does not follow reset {} restart {} clock {} ms",
                now.reset_count, now.restart_count, now.clock_ms, last.reset_count, last.restart_count, last.clock_ms
            );
            Err(Refusal::new(Reason::ClockBackward, detail))
        }
        _ => Ok(()),
    }
}

fn findings(safe: bool, now: ClockPosition, last: Option<ClockPosition>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !safe {
        findings.push(Finding::ClockUnsafe);
    }
    match last {
        Some(last) if now.reset_count != last.reset_count => findings.push(Finding::Rebooted),
        Some(last) if now.restart_count != last.restart_count => findings.push(Finding::Resumed),
        _ => {}
    }
    findings
}

/// What evidence out of order is: `chain-forked` when this host's TPM signed another envelope than the one committed
/// under its sequence number, else `sequence-stale`. `committed_at` is SHA-256 of the envelope committed under
/// [`OutOfOrderEvidence::sequence`]; without it (older than what is kept) nothing can be said of a fork. The last
/// committed one is taken from `host`.
pub fn verify_out_of_order(
    evidence: &OutOfOrderEvidence,
    host: &EnrolledHost,
    committed_at: Option<Digest>,
) -> Refusal {
    let Decoded { evidence, envelope, .. } = &evidence.0;
    let claims = envelope.claims();
    let known = if claims.sequence == host.committed.sequence { Some(host.committed.envelope) } else { committed_at };
    let is_other = known.is_some_and(|known| known != envelope.digest());
    if is_other && claims.host == host.host && covered_quote(evidence, &envelope.digest(), host.signer()).is_ok() {
        let detail = format!(
            "another envelope than the committed one is signed under sequence {}: TPM or agent state was cloned",
            claims.sequence
        );
        return Refusal::new(Reason::ChainForked, detail);
    }
    stale(format!(
        "sequence {} is already committed; the next is {}",
        claims.sequence,
        host.committed.sequence.saturating_add(1)
    ))
}
