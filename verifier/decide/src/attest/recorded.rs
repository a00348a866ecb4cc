//! Dry runs: how a host would stand in other zones, by evidence that was accepted and is kept.

use quotary_common::envelope::ClaimedEnvelope;
use quotary_common::evidence::Evidence;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::tpm::Quote;

use super::logs::{HeldLogs, Measured, measure};
use super::quote::prove_quote;
use super::verify::VerifiedEvidence;
use super::{Appraisal, EnrolledHost, LearnedReferences, Zones, appraise};

/// Evidence that was accepted once: its quote holds. Nonce, clock and chain were checked when it came; nothing can be
/// committed from it.
#[derive(Debug, Clone)]
pub struct RecordedEvidence(VerifiedEvidence);

impl RecordedEvidence {
    /// Reads kept evidence and checks its quote, over whatever PCRs were asked for then.
    ///
    /// # Errors
    /// A [`Refusal`]: `malformed`, or one of [`prove_quote`].
    pub fn of(bytes: Vec<u8>, host: &EnrolledHost) -> Result<Self, Refusal> {
        let malformed = |why: String| Refusal::new(Reason::Malformed, why);
        let mut evidence = Evidence::from_bytes(&bytes).map_err(|error| malformed(error.to_string()))?;
        let envelope = ClaimedEnvelope::parse(std::mem::take(&mut evidence.envelope))
            .map_err(|error| malformed(error.to_string()))?;
        let quote = Quote::parse(&evidence.attest).map_err(|error| malformed(error.to_string()))?;
        let selection = quote.selection;
        let logs = (evidence.boot_log.take(), evidence.ima.take(), evidence.measure_log.take());
        let nonce = evidence.nonce;
        let quote = prove_quote(evidence, &envelope.digest(), host.signer(), &selection)?;
        Ok(Self(VerifiedEvidence::recorded((bytes, envelope, nonce), quote, logs)))
    }
}

/// One host's dry run: its evidence since it booted, oldest first, judged by zones that are not in force.
#[derive(Debug)]
pub struct DryRun<'z> {
    zones: &'z Zones,
    held: Option<HeldLogs>,
    last: Option<(VerifiedEvidence, Measured)>,
}

impl<'z> DryRun<'z> {
    /// Nothing seen yet.
    pub fn new(zones: &'z Zones) -> Self {
        Self { zones, held: None, last: None }
    }

    /// Takes the next evidence; logs of an earlier boot are forgotten.
    pub fn take(&mut self, evidence: RecordedEvidence) {
        let measured = measure(self.held.as_ref(), &evidence.0, self.zones);
        self.held = Some(measured.held().clone());
        self.last = Some((evidence.0, measured));
    }

    /// How the host stands by the evidence taken last; `None` if there was none.
    pub fn outcome(&self, host: &EnrolledHost, learned: &LearnedReferences) -> Option<(Appraisal, &Measured)> {
        let (evidence, measured) = self.last.as_ref()?;
        Some((appraise(evidence, measured, host, self.zones, learned), measured))
    }
}
