//! Each host's chain of evidence as the log tells it, checked again with the verifier's own code.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::envelope::{ClaimedEnvelope, WitnessedCheckpoint};
use quotary_common::evidence::Evidence;
use quotary_common::id::{DeploymentId, Digest, HostId};
use quotary_common::leaf::{Enrolled, EpochRaised, Verdict};
use quotary_common::nonce::Nonce;
use quotary_common::tpm::Quote;

use crate::attest::{
    CheckedEnrolment, ClockPosition, Committed, EnrolmentClaim, Signer, TrustRoots, check_enrolment, prove_quote,
};

/// How long after a nonce's end evidence over it may still be committed: it is checked on receipt, and its leaf
/// carries the time of the commit that it shares with others.
pub const COMMIT_GRACE_MS: u64 = 10_000;
/// Most PCR selections that are told apart.
const SELECTIONS_MAX: usize = 16;

/// A host since its last enrolment.
struct Chain {
    enrolment: CheckedEnrolment,
    qualified_signer: Vec<u8>,
    epoch: u64,
    sequence: u64,
    /// SHA-256 of the last envelope; unknown when its evidence was missing or faulty.
    envelope: Option<Digest>,
    clock: Option<ClockPosition>,
    /// The evidence last looked at: several leaves may name it.
    evidence: Option<Digest>,
}

/// All hosts that have enrolled so far.
pub(super) struct Hosts {
    deployment: Option<DeploymentId>,
    chains: BTreeMap<HostId, Chain>,
    selections: BTreeSet<String>,
}

/// What became of one evidence without a fault.
pub(super) enum Checked {
    /// Everything holds; this is what the host had seen of the log.
    Holds(Option<WitnessedCheckpoint>),
    /// It is not among the files.
    Missing,
}

impl Hosts {
    pub(super) const fn new() -> Self {
        Self { deployment: None, chains: BTreeMap::new(), selections: BTreeSet::new() }
    }

    /// The deployment whose log it is, from leaf 0.
    pub(super) fn belong_to(&mut self, deployment: DeploymentId) {
        self.deployment = Some(deployment);
    }

    /// The PCR selections under which quotes were signed, in the notation of TPM tools.
    pub(super) fn selections(&self) -> impl Iterator<Item = &str> {
        self.selections.iter().map(String::as_str)
    }

    /// Takes the keys that count from here on.
    pub(super) fn enrol(&mut self, enrolled: &Enrolled) -> Result<(), String> {
        let before = self.chains.remove(&enrolled.host);
        let claim = EnrolmentClaim {
            ek_public: &enrolled.ek_public,
            ek_certificates: &[],
            ak_public: &enrolled.ak_public,
            claimed_host: Some(enrolled.host),
            tls_key: enrolled.tls_key,
        };
        let enrolment = TrustRoots::new(Vec::new())
            .map_err(|error| error.to_string())
            .and_then(|roots| check_enrolment(&claim, &roots, 0).map_err(|refusal| refusal.to_string()))
            .map_err(|why| format!("the enrolled keys of {} do not hold: {why}", enrolled.host))?;
        let same_ak = before.as_ref().filter(|chain| chain.enrolment.ak_public() == enrolment.ak_public());
        let chain = Chain {
            qualified_signer: enrolment.qualified_signer().as_bytes().to_vec(),
            enrolment,
            epoch: enrolled.epoch,
            sequence: Committed::NOTHING.sequence,
            envelope: Some(Committed::NOTHING.envelope),
            // A TPM's time goes on under the same key; quotes under a new one are told apart by their signer.
            clock: same_ak.and_then(|chain| chain.clock),
            evidence: None,
        };
        let fault = before.filter(|before| before.epoch > chain.epoch).map(|before| {
            format!("the epoch of {} fell from {} to {} with its enrolment", enrolled.host, before.epoch, chain.epoch)
        });
        self.chains.insert(enrolled.host, chain);
        fault.map_or(Ok(()), Err)
    }

    /// Follows a raised epoch.
    pub(super) fn raise_epoch(&mut self, raised: &EpochRaised) -> Result<(), String> {
        match self.chains.get_mut(&raised.host) {
            None => Err(format!("the epoch of {} is raised, but it has no enrolment that holds", raised.host)),
            Some(chain) if chain.epoch > raised.epoch => {
                Err(format!("the epoch of {} is \"raised\" from {} to {}", raised.host, chain.epoch, raised.epoch))
            }
            Some(chain) => {
                chain.epoch = raised.epoch;
                Ok(())
            }
        }
    }

    /// Whether this very evidence was the last one looked at for its host.
    pub(super) fn is_done(&self, verdict: &Verdict) -> bool {
        self.chains
            .get(&verdict.host)
            .is_some_and(|chain| (chain.sequence, chain.evidence) == (verdict.sequence, Some(verdict.evidence)))
    }

    /// Checks the evidence of a verdict that was committed at `at_ms`; `None` when it is not among the files.
    pub(super) fn check(&mut self, verdict: &Verdict, at_ms: u64, bytes: Option<&[u8]>) -> Result<Checked, String> {
        let deployment = self.deployment;
        let chain = self.chains.get_mut(&verdict.host);
        let chain = chain.ok_or_else(|| format!("{} has no enrolment that holds", verdict.host))?;
        let due = chain.sequence.saturating_add(1);
        let predecessor = chain.envelope.take().filter(|_| verdict.sequence == due);
        (chain.sequence, chain.evidence) = (verdict.sequence, Some(verdict.evidence));
        let Some(bytes) = bytes else {
            return in_turn(verdict, due).map(|()| Checked::Missing);
        };
        if Evidence::digest(bytes) != verdict.evidence {
            return Err("the kept bytes are not the evidence that was decided on: their SHA-256 differs".to_owned());
        }
        let evidence = Evidence::from_bytes(bytes).map_err(|error| format!("the evidence does not read: {error}"))?;
        let envelope = ClaimedEnvelope::parse(evidence.envelope.as_slice());
        let envelope = envelope.map_err(|error| format!("the envelope does not read: {error}"))?;
        chain.envelope = Some(envelope.digest());
        in_turn(verdict, due)?;
        chain.addressee(verdict, deployment, &envelope)?;
        check_nonce(&Nonce::new(evidence.nonce), at_ms)?;
        if predecessor.is_some_and(|predecessor| envelope.claims().predecessor != predecessor) {
            return Err("the envelope follows another one than the one before it in the log".to_owned());
        }
        let selection = chain.quote(evidence, &envelope)?;
        if self.selections.len() < SELECTIONS_MAX {
            self.selections.insert(selection);
        }
        Ok(Checked::Holds(envelope.claims().checkpoint))
    }
}

fn in_turn(verdict: &Verdict, due: u64) -> Result<(), String> {
    if verdict.sequence == due {
        Ok(())
    } else {
        Err(format!("sequence {} stands where {due} is due", verdict.sequence))
    }
}

fn check_nonce(nonce: &Nonce, at_ms: u64) -> Result<(), String> {
    let expiry_ms = nonce.expiry_ms();
    if expiry_ms.saturating_add(COMMIT_GRACE_MS) < at_ms {
        return Err(format!("its nonce held until {expiry_ms} ms (Unix time), it was committed at {at_ms} ms"));
    }
    Ok(())
}

impl Chain {
    /// The envelope speaks for this host, in this deployment, over its TLS key, under the sequence of the leaf.
    fn addressee(
        &self,
        verdict: &Verdict,
        deployment: Option<DeploymentId>,
        envelope: &ClaimedEnvelope,
    ) -> Result<(), String> {
        let claims = envelope.claims();
        if claims.host != verdict.host {
            return Err(format!("the envelope speaks for {}, not for {}", claims.host, verdict.host));
        }
        if deployment.is_some_and(|deployment| claims.deployment != deployment) {
            return Err(format!("the envelope was meant for deployment {}", claims.deployment));
        }
        if claims.sequence != verdict.sequence {
            return Err(format!("the envelope has sequence {}, its leaf says {}", claims.sequence, verdict.sequence));
        }
        if claims.tls_key != self.enrolment.tls_key() {
            return Err("the envelope names another TLS key than the enrolled one".to_owned());
        }
        Ok(())
    }

    /// The quote by itself, then the TPM's time; returns the PCRs that were signed.
    fn quote(&mut self, evidence: Evidence, envelope: &ClaimedEnvelope) -> Result<String, String> {
        // Which PCRs were required at that time the log does not say: those that were signed stand in the report.
        let quote = Quote::parse(&evidence.attest).map_err(|error| format!("not a quote: {error}"))?;
        let signed = quote.selection;
        let signer = Signer { ak: self.enrolment.ak(), qualified_signer: &self.qualified_signer };
        let proven = prove_quote(evidence, &envelope.digest(), signer, &signed)
            .map_err(|refusal| format!("the quote does not hold: {refusal}"))?;
        let clock = ClockPosition::from(proven.clock());
        if self.clock.is_some_and(|last| clock <= last) {
            return Err(
                "the TPM's reset count, restart count and clock did not increase since the evidence before".to_owned()
            );
        }
        self.clock = Some(clock);
        Ok(signed.to_string())
    }
}
