//! Appraisal: the best trust zone whose requirements verified evidence meets.

use std::collections::BTreeMap;

use quotary_common::envelope::Name;
use quotary_common::evidence::PcrValue;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::tpm::PcrSelection;

use super::{EnrolledHost, VerifiedEvidence};

/// A trust zone: a named set of requirements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its name.
    pub name: Name,
    /// The PCRs that it looks at.
    pub pcr_selection: PcrSelection,
    /// Whether the EK must be certified by a configured authority.
    pub require_ek_certificate: bool,
    /// What the PCRs must be.
    pub reference: Reference,
}

/// Reference values of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The values of the first host that is appraised in the zone hold for all later ones.
    Learn,
    /// These values, one for each selected PCR.
    Values(Vec<PcrValue>),
}

/// Values that zones have learned, by zone; in the order of [`PcrValue`].
pub type LearnedReferences = BTreeMap<Name, Vec<PcrValue>>;

/// The zones of a deployment, best first: names are unique, and reference values cover exactly the selected PCRs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zones(Vec<Zone>);

/// Zones that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZonesError {
    /// There is none.
    #[error("no trust zone is configured: every host would be refused")]
    Empty,
    /// Two have one name.
    #[error("trust zone `{0}` is configured twice")]
    Twice(Name),
    /// Reference values and selection differ.
    #[error("trust zone `{0}`: its reference values are not those of the PCRs that it selects")]
    Values(Name),
}

impl Zones {
    /// Checks zones, given best first.
    ///
    /// # Errors
    /// [`ZonesError`].
    pub fn new(zones: Vec<Zone>) -> Result<Self, ZonesError> {
        if zones.is_empty() {
            return Err(ZonesError::Empty);
        }
        for (i, zone) in zones.iter().enumerate() {
            if zones.iter().take(i).any(|earlier| earlier.name == zone.name) {
                return Err(ZonesError::Twice(zone.name.clone()));
            }
            if let Reference::Values(values) = &zone.reference {
                let selected = zone.pcr_selection.iter().filter(|pcr| find(values, *pcr).is_some()).count();
                if selected != values.len() || selected != zone.pcr_selection.count() {
                    return Err(ZonesError::Values(zone.name.clone()));
                }
            }
        }
        Ok(Self(zones))
    }
    /// The zones, best first.
    pub fn as_slice(&self) -> &[Zone] {
        &self.0
    }
    /// The PCRs of all zones together: what goes with a nonce, and what a quote must cover, no more and no less.
    pub fn required_selection(&self) -> PcrSelection {
        let mut zones = self.0.iter().map(|zone| zone.pcr_selection.clone());
        let first = zones.next().unwrap_or_else(PcrSelection::firmware);
        zones.fold(first, |all, zone| all.union(&zone))
    }
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appraisal {
    /// The best zone that the host is in; `None` when it is in none.
    pub zone: Option<Name>,
    /// Why it is in no better one: a sentence for each zone that was tried before.
    pub reasons: Vec<Refusal>,
    /// Values to store: the zone had none, and this host's are its reference from now on. The store must make sure
    /// that nobody else taught the zone meanwhile.
    pub learned: Option<(Name, Vec<PcrValue>)>,
}

impl Appraisal {
    /// The refusal, when the host is in no zone: `pcr-reference` if that kept it from any, else `zone`.
    pub fn refusal(&self) -> Option<&Refusal> {
        if self.zone.is_some() {
            return None;
        }
        self.reasons.iter().find(|refusal| refusal.reason == Reason::PcrReference).or(self.reasons.first())
    }
}

/// The first zone, from the best that the host's admission allows down to the lowest, whose requirements hold.
/// A host whose EK nobody certified may enter the lowest zone only (design §5, admission rules).
pub fn appraise(
    evidence: &VerifiedEvidence,
    host: &EnrolledHost,
    zones: &Zones,
    learned: &LearnedReferences,
) -> Appraisal {
    let mut reasons = Vec::new();
    let Some(best) = zones.0.iter().position(|zone| zone.name == host.best_zone) else {
        let detail = format!("zone `{}`, the best that the host may enter, is not configured", host.best_zone);
        return Appraisal { zone: None, reasons: vec![Refusal::new(Reason::Zone, detail)], learned: None };
    };
    let lowest = zones.0.len().saturating_sub(1);
    for (i, zone) in zones.0.iter().enumerate().skip(best) {
        if !host.ek_certified && (i < lowest || zone.require_ek_certificate) {
            let detail =
                format!("zone `{}`: the endorsement key is not certified by a configured authority", zone.name);
            reasons.push(Refusal::new(Reason::Zone, detail));
            continue;
        }
        let failed = reasons.iter().any(|refusal: &Refusal| refusal.reason == Reason::PcrReference);
        if failed && zone.reference == Reference::Learn && !learned.contains_key(&zone.name) {
            // What a better zone found wrong must not become the reference of this one.
            let detail = format!(
                "zone `{}` has no reference values yet, and learns none from a host that failed a better one",
                zone.name
            );
            reasons.push(Refusal::new(Reason::Zone, detail));
            continue;
        }
        match compare(zone, evidence.pcr_values(), learned) {
            Ok(learned) => return Appraisal { zone: Some(zone.name.clone()), reasons, learned },
            Err(refusal) => reasons.push(refusal),
        }
    }
    Appraisal { zone: None, reasons, learned: None }
}

type Learned = Option<(Name, Vec<PcrValue>)>;

fn compare(zone: &Zone, proven: &[PcrValue], learned: &LearnedReferences) -> Result<Learned, Refusal> {
    let reference = match &zone.reference {
        Reference::Values(values) => Some(values),
        Reference::Learn => learned.get(&zone.name),
    };
    let mut taught = Vec::new();
    for pcr in zone.pcr_selection.iter() {
        let (hash_alg, index) = pcr;
        let Some(value) = find(proven, pcr) else {
            let detail = format!("zone `{}`: PCR {index} of bank 0x{hash_alg:04x} was not quoted", zone.name);
            return Err(Refusal::new(Reason::PcrSelection, detail));
        };
        match reference {
            Some(reference) => check_value(zone, value, find(reference, pcr))?,
            None => taught.push(value.clone()),
        }
    }
    taught.sort_unstable();
    Ok(reference.is_none().then(|| (zone.name.clone(), taught)))
}

fn check_value(zone: &Zone, value: &PcrValue, expected: Option<&PcrValue>) -> Result<(), Refusal> {
    if expected == Some(value) {
        return Ok(());
    }
    let hex = |value: &PcrValue| data_encoding::HEXLOWER.encode(&value.value);
    let detail = format!(
        "zone `{}`: PCR {} of bank 0x{:04x} is {}, its reference is {}",
        zone.name,
        value.index,
        value.hash_alg,
        hex(value),
        expected.map_or_else(|| "missing".to_owned(), hex)
    );
    Err(Refusal::new(Reason::PcrReference, detail))
}

fn find(values: &[PcrValue], (hash_alg, index): (u16, u8)) -> Option<&PcrValue> {
    values.iter().find(|value| value.hash_alg == hash_alg && value.index == index)
}
