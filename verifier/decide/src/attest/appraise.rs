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
    /// The values of the first host that is appraised in the zone hold for all later ones; but for PCR 10 where the zone
    /// asks for the IMA list, which judges it.
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

/// The PCR that an IMA list replays to, in the bank that zones look at.
const IMA_PCR: (u16, u8) = (0x000B, 10);

/// The rules by which this crate judges logs; others are another number. What is kept of a host's logs was judged by the
/// rules of its time: under newer ones they are wanted again.
const JUDGED_BY: &[u8] = b"rules 2";

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
        // Only compared with itself: any text that tells requirements apart will do.
        let asked: Vec<_> = zones.iter().map(|zone| (&zone.name, &zone.boot, &zone.pcr_selection)).collect();
        let requirements = Digest::of(&[JUDGED_BY, format!("{asked:?}").as_bytes()]);
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
    /// The zones that nothing keeps the host from but logs that are on their way: nothing is proven yet, and nothing speaks
    /// against the host. The trust of a host that is in one of them goes on ageing.
    pub pending: Vec<Name>,
}

impl Appraisal {
    /// The refusal, when the host is in no zone and none is pending: `pcr-reference` if that kept it from any, else `zone`.
    pub fn refusal(&self) -> Option<&Refusal> {
        if self.zone.is_some() || !self.pending.is_empty() {
            return None;
        }
        let of_state =
            |refusal: &&Refusal| matches!(refusal.reason, Reason::PcrReference | Reason::BootLog | Reason::Ima);
        self.reasons.iter().find(of_state).or(self.reasons.first())
    }
    /// Whether a host that is in `zone` stays there, its trust ageing: only logs that are on their way keep it from being
    /// proven to be there still.
    pub fn ages_in(&self, zone: &Name) -> bool {
        self.pending.contains(zone)
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
    let mut out =
        Appraisal { zone: None, reasons: vec![], learned: None, warnings: vec![], revoke: None, pending: vec![] };
    let Some(best) = zones.zones.iter().position(|zone| zone.name == host.best_zone) else {
        let detail = format!("zone `{}`, the best that the host may enter, is not configured", host.best_zone);
        out.reasons.push(Refusal::new(Reason::Zone, detail));
        return out;
    };
    if !host.is_listed {
        let detail = "the endorsement key is no longer on the list of those that are admitted";
        out.reasons.push(Refusal::new(Reason::Zone, detail));
        return out;
    }
    let lowest = zones.zones.len().saturating_sub(1);
    for (i, zone) in zones.zones.iter().enumerate().skip(best) {
        let standing = match admission_refusal(zone, host, i == lowest) {
            Some(refusal) => Standing::Out(refusal),
            None => standing(zone, (evidence, measured), learned, &out),
        };
        match standing {
            Standing::In(warnings, learned) => {
                return Appraisal { zone: Some(zone.name.clone()), warnings, learned, ..out };
            }
            Standing::Pending(refusal) => {
                out.pending.push(zone.name.clone());
                out.reasons.push(refusal);
            }
            Standing::Out(refusal) => out.reasons.push(refusal),
            Standing::Revoked(refusal) => return Appraisal { revoke: Some(refusal), pending: vec![], ..out },
        }
    }
    if !out.pending.is_empty() && measured.is_ima_pending() {
        out.warnings = measured.ima_unproven().into_iter().collect();
    }
    out
}

/// How a host stands to a zone.
enum Standing {
    /// In it: what was noticed nevertheless, and what it teaches the zone.
    In(Vec<LogFinding>, Learned),
    /// Nothing but logs on their way keeps it out.
    Pending(Refusal),
    Out(Refusal),
    Revoked(Refusal),
}

fn admission_refusal(zone: &Zone, host: &EnrolledHost, is_lowest: bool) -> Option<Refusal> {
    let refusal = |what| Some(Refusal::new(Reason::Zone, format!("zone `{}`: {what}", zone.name)));
    if !host.ek_certified && (!is_lowest || zone.require_ek_certificate) {
        return refusal("the endorsement key is not certified by a configured authority");
    }
    if zone.require_hardware_tpm && !host.hardware_tpm {
        return refusal("no authority that certifies chips issued the EK certificate");
    }
    None
}

/// How a host that may enter `zone` stands to it; `better` is what the zones before it came to.
///
/// A log that is on its way ends nothing here: whatever else speaks against the zone is looked for.
fn standing(
    zone: &Zone,
    (evidence, measured): (&VerifiedEvidence, &Measured),
    learned: &LearnedReferences,
    better: &Appraisal,
) -> Standing {
    let mut pending = None;
    match boot_fault(zone, measured) {
        Some((refusal, true)) => pending = Some(refusal),
        Some((refusal, false)) => return Standing::Out(refusal),
        None => {}
    }
    let warnings = match ima_verdict(zone, measured) {
        Ima::Satisfied(warnings) => warnings,
        Ima::Pending(refusal) => {
            pending.get_or_insert(refusal);
            Vec::new()
        }
        Ima::Refused(refusal) => return Standing::Out(refusal),
        Ima::Revoked(refusal) => return Standing::Revoked(refusal),
    };
    let is_unlearned = zone.reference == Reference::Learn && !learned.contains_key(&zone.name);
    if let Some(why) = why_not_taught(better).filter(|_| is_unlearned && pending.is_none()) {
        // What a better zone found wrong, or did not see yet, must not become the reference of this one.
        let detail = format!("zone `{}` has no reference values yet, and learns none from a host {why}", zone.name);
        return Standing::Out(Refusal::new(Reason::Zone, detail));
    }
    match (compare(zone, evidence.pcr_values(), learned), pending) {
        (Err(refusal), _) => Standing::Out(refusal),
        (Ok(_), Some(refusal)) => Standing::Pending(refusal),
        (Ok(learned), None) => Standing::In(warnings, learned),
    }
}

/// Why a host that stands so in the better zones teaches no lower one.
fn why_not_taught(better: &Appraisal) -> Option<&'static str> {
    if better.reasons.iter().any(|refusal| refusal.reason == Reason::PcrReference) {
        return Some("that failed a better one");
    }
    (!better.pending.is_empty()).then_some("whose logs are on their way to a better one")
}

/// What keeps the host from the zone by its boot log, and whether it is only a log on its way.
fn boot_fault(zone: &Zone, measured: &Measured) -> Option<(Refusal, bool)> {
    zone.boot.as_ref()?;
    let (finding, count) = measured.boot_fault(zone)?;
    let refusal = Refusal::new(Reason::BootLog, told(zone, &finding, u64::from(count)));
    Some((refusal, measured.is_boot_pending(&finding)))
}

/// A zone's verdict on what ran.
enum Ima {
    Satisfied(Vec<LogFinding>),
    Pending(Refusal),
    Refused(Refusal),
    Revoked(Refusal),
}

/// Of a list that is on its way, what came so far counts: the host itself says that it ran, and more takes nothing back.
fn ima_verdict(zone: &Zone, measured: &Measured) -> Ima {
    let Some(on_unknown) = zone.ima else { return Ima::Satisfied(Vec::new()) };
    let refusal = |finding: &LogFinding, count| Refusal::new(Reason::Ima, told(zone, finding, count));
    let unproven = measured.ima_unproven();
    if let Some(finding) = unproven.as_ref().filter(|_| !measured.is_ima_pending()) {
        return Ima::Refused(refusal(finding, 1));
    }
    let unknown = measured.ima_unknown();
    match (unknown, on_unknown, unproven) {
        (Some((finding, count)), OnUnknown::Revoke, _) => Ima::Revoked(refusal(&finding, count)),
        (Some((finding, count)), OnUnknown::Shrink, _) => Ima::Refused(refusal(&finding, count)),
        (_, _, Some(finding)) => Ima::Pending(refusal(&finding, 1)),
        (unknown, _, None) => Ima::Satisfied(unknown.map(|(finding, _)| finding).into_iter().collect()),
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
            // It moves with whatever runs, and the list says whether that may: the first host's value binds nobody.
            Some(_) if pcr == IMA_PCR && zone.ima.is_some() && zone.reference == Reference::Learn => {}
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
