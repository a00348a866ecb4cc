//! Dry runs: how a host would stand in other zones, by evidence that was accepted and is kept.

use std::collections::BTreeSet;

use quotary_common::envelope::{ClaimedEnvelope, Name};
use quotary_common::evidence::Evidence;
use quotary_common::id::Digest;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::tpm::Quote;

use super::logs::{HeldLogs, Measured, measure};
use super::quote::prove_quote;
use super::userspace;
use super::verify::VerifiedEvidence;
use super::{Appraisal, EnrolledHost, LearnedReferences, Zone, Zones, appraise};
use crate::ima::Aggregate;

/// Evidence that was accepted once: its quote holds. Nonce, clock and chain were checked when it came; nothing can be
/// committed from it.
#[derive(Debug, Clone)]
pub struct RecordedEvidence(VerifiedEvidence);

impl RecordedEvidence {
    /// Whether kept evidence brought some of the IMA list of this boot, as it says itself: what is not to be judged costs no
    /// signature check.
    pub fn brings_ima(bytes: &[u8], reset_count: u32) -> bool {
        let is_of_boot = |attest: &[u8]| Quote::parse(attest).is_ok_and(|quote| quote.clock.reset_count == reset_count);
        Evidence::from_bytes(bytes)
            .is_ok_and(|evidence| evidence.ima.is_some_and(|ima| !ima.bytes.is_empty()) && is_of_boot(&evidence.attest))
    }

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

/// One host's dry run: what is kept of this boot, oldest first, judged by zones that are not in force.
#[derive(Debug)]
pub struct DryRun<'z> {
    zones: &'z Zones,
    in_force: &'z Zones,
    /// What the zones in force made of the host's logs.
    known: Option<&'z HeldLogs>,
    held: Option<HeldLogs>,
    last: Option<(VerifiedEvidence, Measured)>,
}

impl<'z> DryRun<'z> {
    /// Nothing seen yet. `known` is what is kept of the host's logs, as the zones `in_force` judged them.
    pub fn new(zones: &'z Zones, in_force: &'z Zones, known: Option<&'z HeldLogs>) -> Self {
        Self { zones, in_force, known, held: None, last: None }
    }

    /// The evidence that brought the boot log, if the zones ask for one.
    pub fn boot_evidence(&self) -> Option<Digest> {
        let boot = self.known?.boot.as_ref()?;
        self.zones.ask_boot_log().then_some(boot.evidence)
    }

    /// The boot whose IMA list must be read anew, by its reset count: what is known of it was judged by another reference.
    /// `None` where nothing is to be read but the last evidence.
    pub fn ima_boot(&self) -> Option<u32> {
        let (known, reference) = (self.known?, self.zones.ima_reference()?);
        known.ima.filter(|ima| ima.reference() != reference.digest()).map(|_| known.reset_count)
    }

    /// Takes the next evidence; logs of an earlier boot are forgotten.
    pub fn take(&mut self, evidence: RecordedEvidence) {
        let measured = measure(self.held.as_ref(), &evidence.0, self.zones);
        self.held = Some(measured.held().clone());
        self.last = Some((evidence.0, measured));
    }

    /// Takes the evidence that was committed last. An IMA list that was judged by the same reference stands as it is known.
    pub fn take_last(&mut self, mut evidence: RecordedEvidence) {
        if let Some((known, ima)) = self.known_ima() {
            let held = self.held.take().unwrap_or_else(|| HeldLogs::nothing(known, self.zones));
            self.held = Some(HeldLogs { ima: Some(ima), ima_findings: known.ima_findings.clone(), ..held });
            // What the evidence brought is in it already: only whether it reaches the quoted PCR 10 is open. A list of
            // which nothing was taken must be read.
            if ima.entries() > 0 {
                evidence.0.ima_taken(ima.offset_bytes());
            }
        }
        self.take(evidence);
    }

    fn known_ima(&self) -> Option<(&'z HeldLogs, Aggregate)> {
        let (known, reference) = (self.known?, self.zones.ima_reference()?);
        Some((known, known.ima.filter(|ima| ima.reference() == reference.digest())?))
    }

    /// How the host stands by the evidence taken last; `None` if there was none.
    pub fn outcome(&self, host: &EnrolledHost, learned: &LearnedReferences) -> Option<Appraisal> {
        let (evidence, measured) = self.last.as_ref()?;
        Some(appraise(evidence, measured, host, self.zones, learned))
    }

    /// Why `appraisal` of `host` cannot be believed: a zone that was tried asks for what was never asked of the host. One
    /// that stays in its zone, `now`, does so whatever a better one would find.
    pub fn unrecorded(&self, host: &EnrolledHost, now: Option<&str>, appraisal: &Appraisal) -> Option<String> {
        let zones = self.zones.as_slice();
        let place = |name: &Name| zones.iter().position(|zone| zone.name == *name);
        let best = place(&host.best_zone).filter(|_| host.is_listed)?;
        let entered = appraisal.zone.as_ref().and_then(place);
        let stays = now.is_some() && now == appraisal.zone.as_ref().map(Name::as_str);
        let first = entered.filter(|_| stays).unwrap_or(best);
        let mut missing = BTreeSet::new();
        for (i, zone) in zones.iter().enumerate().take(entered.map_or(zones.len(), |i| i + 1)).skip(first) {
            missing.extend(self.pcrs_missing(zone));
            // Logs that satisfied a zone were there.
            if Some(i) != entered {
                missing.extend(self.logs_missing(zone).into_iter().map(str::to_owned));
            }
        }
        if missing.is_empty() {
            return None;
        }
        let what = missing.into_iter().collect::<Vec<_>>().join(", ");
        Some(format!(
            "the zones in force do not ask for {what}, so none is recorded: put the zone in force below the others first"
        ))
    }

    fn pcrs_missing(&self, zone: &Zone) -> Vec<String> {
        let quoted = self.last.as_ref().map_or(&[] as &[_], |(evidence, _)| evidence.pcr_values());
        let is_quoted = |(hash_alg, index)| quoted.iter().any(|pcr| (pcr.hash_alg, pcr.index) == (hash_alg, index));
        let missing = zone.pcr_selection.iter().filter(|pcr| !is_quoted(*pcr));
        missing.map(|(hash_alg, index)| format!("PCR {index} of bank 0x{hash_alg:04x}")).collect()
    }

    /// Which logs the zone asks for that the host was never asked for; after a change of zones, until it attests again,
    /// those that it did not send.
    fn logs_missing(&self, zone: &Zone) -> Vec<&'static str> {
        let known = self.known;
        let was_asked = known.is_some_and(|known| known.requirements == self.in_force.requirements());
        let boot = known.and_then(|known| known.boot.as_ref());
        let has = [
            ("a boot log", zone.boot.is_some(), self.in_force.ask_boot_log(), boot.is_some()),
            (
                "a measure log",
                zone.boot.is_some() && userspace::is_selected(&zone.pcr_selection),
                !userspace::asked(self.in_force).is_empty(),
                boot.is_some_and(|boot| boot.measure_log.is_some()),
            ),
            (
                "an IMA list",
                zone.ima.is_some(),
                self.in_force.ima_reference().is_some(),
                known.is_some_and(|known| known.ima.is_some()),
            ),
        ];
        let missing =
            has.into_iter().filter(|(_, wants, asks, is_there)| *wants && !(*asks && (was_asked || *is_there)));
        missing.map(|(what, ..)| what).collect()
    }
}
