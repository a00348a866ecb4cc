//! Appraisal: the best trust zone whose requirements verified evidence meets.

use std::collections::BTreeMap;
use std::sync::Arc;

use quotary_common::envelope::Name;
use quotary_common::evidence::PcrValue;
use quotary_common::id::Digest;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::tpm::PcrSelection;

use super::logs::{BootRequirement, LogFinding, Measured, OnUnknown};
use super::userspace::USERSPACE_PCRS;
use super::{EnrolledHost, VerifiedEvidence};
use crate::ima;

/// A trust zone: a named set of requirements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its name.
    pub name: Name,
    /// The PCRs that it looks at.
    pub pcr_selection: PcrSelection,
    /// Whether the EK must be certified by a configured authority.
    pub require_ek_certificate: bool,
    /// Whether the issuer of the EK certificate must be one that certifies chips.
    pub require_hardware_tpm: bool,
    /// What the PCRs must be.
    pub reference: Reference,
    /// What the boot log must show; absent: it is not asked for.
    pub boot: Option<BootRequirement>,
    /// What happens when the IMA list shows an unknown file; absent: the list is not asked for.
    pub ima: Option<OnUnknown>,
}

/// Reference values of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The values of the first host that is appraised in the zone hold for all later ones.
    Learn,
    /// These values, one for each selected PCR.
    Values(Vec<PcrValue>),
    /// What the boot log replays to, and for PCRs 11, 12, 13 and 15 the measure log after it: the zone's boot requirement
    /// judges it.
    Replayed,
}

/// Values that zones have learned, by zone; in the order of [`PcrValue`].
pub type LearnedReferences = BTreeMap<Name, Vec<PcrValue>>;

/// The zones of a deployment, best first: names are unique, and reference values cover exactly the selected PCRs.
#[derive(Debug, Clone)]
pub struct Zones {
    zones: Vec<Zone>,
    ima: Option<Arc<ima::Reference>>,
    /// SHA-256 of what boot logs are judged by.
    requirements: Digest,
}

impl PartialEq for Zones {
    fn eq(&self, other: &Self) -> bool {
        let ima = |zones: &Self| zones.ima.as_ref().map(|reference| reference.digest());
        self.zones == other.zones && ima(self) == ima(other)
    }
}

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
    /// A boot requirement without the PCRs that carry it.
    #[error("trust zone `{0}` has a boot requirement: it must select sha256:0-9 at least")]
    BootPcrs(Name),
    /// A requirement for userspace without the PCRs that carry it.
    #[error("trust zone `{0}` says what userspace may measure: it must select one of sha256:11,12,13,15 at least")]
    Userspace(Name),
    /// An IMA requirement without what it needs.
    #[error("trust zone `{0}` asks for the IMA list: it must select sha256:10, and [ima] must say what may run")]
    Ima(Name),
}

impl Zones {
    /// Checks zones, given best first.
    ///
    /// # Errors
    /// [`ZonesError`].
    pub fn new(zones: Vec<Zone>) -> Result<Self, ZonesError> {
        Self::with_ima(zones, None)
    }
    /// Checks zones, given best first, with what their IMA lists are appraised by.
    ///
    /// # Errors
    /// [`ZonesError`].
    pub fn with_ima(zones: Vec<Zone>, ima: Option<ima::Reference>) -> Result<Self, ZonesError> {
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
            zone.check_logs(ima.is_some())?;
        }
        // Only compared with itself, by one build of this crate: any text that tells requirements apart will do.
        let asked: Vec<_> = zones.iter().map(|zone| (&zone.name, &zone.boot, &zone.pcr_selection)).collect();
        let requirements = Digest::of(&[format!("{asked:?}").as_bytes()]);
        let ima = ima.filter(|_| zones.iter().any(|zone| zone.ima.is_some())).map(Arc::new);
        Ok(Self { zones, ima, requirements })
    }
    /// The zones, best first.
    pub fn as_slice(&self) -> &[Zone] {
        &self.zones
    }
    /// Whether some zone asks for the boot log.
    pub fn ask_boot_log(&self) -> bool {
        self.zones.iter().any(|zone| zone.boot.is_some())
    }
    /// What IMA lists are appraised by, if some zone asks for them.
    pub fn ima_reference(&self) -> Option<&ima::Reference> {
        self.ima.as_deref()
    }
    /// SHA-256 of what boot logs are judged by.
    pub(super) fn requirements(&self) -> Digest {
        self.requirements
    }
    /// The PCRs of all zones together: what goes with a nonce, and what a quote must cover, no more and no less.
    pub fn required_selection(&self) -> PcrSelection {
        let mut zones = self.zones.iter().map(|zone| zone.pcr_selection.clone());
        let first = zones.next().unwrap_or_else(PcrSelection::firmware);
        zones.fold(first, |all, zone| all.union(&zone))
    }
}

impl Zone {
    fn check_logs(&self, has_ima_reference: bool) -> Result<(), ZonesError> {
        let selects = |index: u8| self.pcr_selection.iter().any(|pcr| pcr == (0x000B, index));
        if self.boot.is_some() && !(0..=9).all(selects) {
            return Err(ZonesError::BootPcrs(self.name.clone()));
        }
        let asks_userspace = self.boot.as_ref().is_some_and(|boot| boot.userspace.is_some());
        if asks_userspace && !USERSPACE_PCRS.into_iter().any(selects) {
            return Err(ZonesError::Userspace(self.name.clone()));
        }
        if self.reference == Reference::Replayed && self.boot.is_none() {
            return Err(ZonesError::Values(self.name.clone()));
        }
        if self.ima.is_some() && !(selects(10) && has_ima_reference) {
            return Err(ZonesError::Ima(self.name.clone()));
        }
        Ok(())
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
    /// What was noticed and does not keep the host from its zone.
    pub warnings: Vec<LogFinding>,
    /// Why the host's epoch must rise: a zone says `revoke` of what ran.
    pub revoke: Option<Refusal>,
    /// The IMA list is on its way, in parts: nothing is proven yet, and nothing speaks against the host. Its trust goes
    /// on ageing.
    pub catching_up: bool,
}

impl Appraisal {
    /// The refusal, when the host is in no zone: `pcr-reference` if that kept it from any, else `zone`.
    pub fn refusal(&self) -> Option<&Refusal> {
        if self.zone.is_some() || self.catching_up {
            return None;
        }
        let of_state =
            |refusal: &&Refusal| matches!(refusal.reason, Reason::PcrReference | Reason::BootLog | Reason::Ima);
        self.reasons.iter().find(of_state).or(self.reasons.first())
    }
}

/// The first zone, from the best that the host's admission allows down to the lowest, whose requirements hold.
/// A host whose EK nobody certified may enter the lowest zone only (design §5, admission rules).
pub fn appraise(
    evidence: &VerifiedEvidence,
    measured: &Measured,
    host: &EnrolledHost,
    zones: &Zones,
    learned: &LearnedReferences,
) -> Appraisal {
    let mut reasons = Vec::new();
    let catching_up = measured.is_catching_up();
    let none = |reasons, revoke| Appraisal {
        zone: None,
        reasons,
        learned: None,
        warnings: measured.ima_unproven().filter(|_| catching_up).into_iter().collect(),
        revoke,
        catching_up,
    };
    let Some(best) = zones.zones.iter().position(|zone| zone.name == host.best_zone) else {
        let detail = format!("zone `{}`, the best that the host may enter, is not configured", host.best_zone);
        return none(vec![Refusal::new(Reason::Zone, detail)], None);
    };
    if !host.is_listed {
        let detail = "the endorsement key is no longer on the list of those that are admitted";
        return none(vec![Refusal::new(Reason::Zone, detail)], None);
    }
    let lowest = zones.zones.len().saturating_sub(1);
    for (i, zone) in zones.zones.iter().enumerate().skip(best) {
        if !host.ek_certified && (i < lowest || zone.require_ek_certificate) {
            let detail =
                format!("zone `{}`: the endorsement key is not certified by a configured authority", zone.name);
            reasons.push(Refusal::new(Reason::Zone, detail));
            continue;
        }
        if zone.require_hardware_tpm && !host.hardware_tpm {
            let detail = format!("zone `{}`: no authority that certifies chips issued the EK certificate", zone.name);
            reasons.push(Refusal::new(Reason::Zone, detail));
            continue;
        }
        if let Some(refusal) = boot_refusal(zone, measured) {
            reasons.push(refusal);
            continue;
        }
        let warnings = match ima_verdict(zone, measured) {
            Ima::Satisfied(warnings) => warnings,
            Ima::Refused(refusal) => {
                reasons.push(refusal);
                continue;
            }
            Ima::Revoked(refusal) => return none(reasons, Some(refusal)),
        };
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
            Ok(learned) => {
                let zone = Some(zone.name.clone());
                return Appraisal { zone, learned, warnings, ..none(reasons, None) };
            }
            Err(refusal) => reasons.push(refusal),
        }
    }
    none(reasons, None)
}

fn boot_refusal(zone: &Zone, measured: &Measured) -> Option<Refusal> {
    zone.boot.as_ref()?;
    let (finding, count) = measured.boot_fault(zone)?;
    Some(Refusal::new(Reason::BootLog, told(zone, &finding, u64::from(count))))
}

/// A zone's verdict on what ran.
enum Ima {
    Satisfied(Vec<LogFinding>),
    Refused(Refusal),
    Revoked(Refusal),
}

fn ima_verdict(zone: &Zone, measured: &Measured) -> Ima {
    let Some(on_unknown) = zone.ima else { return Ima::Satisfied(Vec::new()) };
    if let Some(finding) = measured.ima_unproven() {
        return Ima::Refused(Refusal::new(Reason::Ima, told(zone, &finding, 1)));
    }
    let Some((finding, count)) = measured.ima_unknown() else { return Ima::Satisfied(Vec::new()) };
    let refusal = Refusal::new(Reason::Ima, told(zone, &finding, count));
    match on_unknown {
        OnUnknown::Warn => Ima::Satisfied(vec![finding]),
        OnUnknown::Shrink => Ima::Refused(refusal),
        OnUnknown::Revoke => Ima::Revoked(refusal),
    }
}

fn told(zone: &Zone, finding: &LogFinding, count: u64) -> String {
    let at = finding.event.map(|event| format!(", event {event}")).unwrap_or_default();
    let more = if count > 1 { format!(" ({} more)", count - 1) } else { String::new() };
    format!("zone `{}`: {}{at}: {}{more}", zone.name, finding.code, finding.detail)
}

type Learned = Option<(Name, Vec<PcrValue>)>;

fn compare(zone: &Zone, proven: &[PcrValue], learned: &LearnedReferences) -> Result<Learned, Refusal> {
    let reference = match &zone.reference {
        Reference::Values(values) => Some(values),
        Reference::Learn => learned.get(&zone.name),
        Reference::Replayed => return Ok(None),
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
