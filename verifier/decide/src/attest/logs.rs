//! What the logs beside a quote say: the boot log, and systemd's measure log after it, held against the quoted PCRs and a
//! zone's blessed measurements; the IMA list folded up to the quoted PCR 10.
//!
//! The boot log comes once per boot and with every measure log that is new, the IMA list in increments; between evidences a small record is kept
//! ([`HeldLogs`]). Everything here is judged per zone, so that appraisal only looks it up.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use quotary_common::cbor::{Bounded, Text};
use quotary_common::envelope::Name;
use quotary_common::evidence::{ImaForm, ImaIncrement, PcrValue};
use quotary_common::id::{BootId, Digest};
use quotary_common::wire::LogsWanted;

use super::userspace::{self, USERSPACE_PCRS, Userspace};
use super::{VerifiedEvidence, Zone, Zones, stages};
use crate::eventlog::{
    Bank, BootStages, EventLog, MismatchCode, ProblemCode, Stage, boot_stages, compare, secure_boot,
};
use crate::ima::{self, Aggregate, Increment, ListForm, Outcome, Reference};

/// TCG id of the bank that logs are held against.
pub(super) const SHA256: u16 = 0x000B;
/// PCRs that firmware and boot loader extend and nothing later does: a boot log must replay to them.
const BOOT_PCRS: [u8; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14];
/// Findings that are told of one host; the rest are counted.
pub const LOG_FINDINGS_MAX: usize = 6;
/// Findings of the IMA list that are told of one host.
pub const IMA_FINDINGS_MAX: usize = 4;
/// The finding of userspace's PCRs that moved since the logs came, and what it says.
const MEASURE_LOG_BEHIND: &str = "measure-log-behind";
const EXPLAIN_MEASURE_LOG_BEHIND: &str =
    "userspace extended PCR 11, 12, 13 or 15 since the logs came: the next evidence brings them";
/// Longest detail of a finding, in bytes.
pub const FINDING_DETAIL_BYTES_MAX: usize = 160;

/// What a zone asks of the boot log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootRequirement {
    /// What Secure Boot must be; absent: whatever it is.
    pub secure_boot: Option<bool>,
    /// Blessed measurements (SHA-256) of each stage that is looked at: every measurement of the stage must be among
    /// them, and there must be one. In PCRs 8 and 9, where words that nobody measured tell the stages apart, every
    /// measurement of the PCR must be among those of the named stages that live there.
    pub stages: BTreeMap<Stage, BTreeSet<[u8; 32]>>,
    /// Problems of the log that are accepted.
    pub accept: BTreeSet<ProblemCode>,
    /// Blessed measurements (SHA-256) of the running system: whatever extended one of [`USERSPACE_PCRS`] that the zone
    /// selects must be among them or its stage's, and there may be nothing. Absent: whatever the PCRs prove.
    pub userspace: Option<BTreeSet<[u8; 32]>>,
}

/// What happens when a file runs that the allow-list does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnknown {
    /// The host stays, with a finding.
    Warn,
    /// The host leaves the zone for the next one.
    Shrink,
    /// The host's epoch rises: all its grants end at once.
    Revoke,
}

/// One thing that a log shows.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LogFinding {
    /// Its fixed code, kebab case.
    #[n(0)]
    pub code: Name,
    /// The number of the event or entry that shows it.
    #[n(1)]
    pub event: Option<u64>,
    /// What was seen, and what would satisfy the check.
    #[n(2)]
    pub detail: Text<FINDING_DETAIL_BYTES_MAX>,
}

/// What a boot log comes to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HeldBoot {
    /// The evidence that brought the log.
    #[n(0)]
    pub evidence: Digest,
    /// SHA-256 of the log.
    #[n(1)]
    pub log: Digest,
    /// SHA-256 over the PCR values that it was held against: others need the log again.
    #[n(2)]
    pub pcr_values: Digest,
    /// Whether Secure Boot was on; absent where it cannot be said.
    #[n(3)]
    pub secure_boot: Option<bool>,
    /// How many findings each zone has that asks for a boot log; none: it is satisfied.
    #[n(4)]
    pub zones: Bounded<(Name, u32), ZONES_MAX>,
    /// The first findings, by zone.
    #[n(5)]
    pub findings: Bounded<(Name, LogFinding), LOG_FINDINGS_MAX>,
    /// SHA-256 of the measure log that the same evidence brought, as far as the quote covered it.
    #[n(6)]
    pub measure_log: Option<Digest>,
    /// SHA-256 over the values of userspace's PCRs that both were held against; absent where they moved on since, or no
    /// zone looks at them.
    #[n(7)]
    pub userspace: Option<Digest>,
}

/// Most zones whose boot requirement is kept with a host.
const ZONES_MAX: usize = 16;

/// What is kept of a host's logs between evidences.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HeldLogs {
    /// The boot, as the agent names it.
    #[n(0)]
    pub boot_id: BootId,
    /// The boot, as the TPM counts it.
    #[n(1)]
    pub reset_count: u32,
    /// What the boot log was judged by: another set of requirements needs the log again.
    #[n(2)]
    pub requirements: Digest,
    /// The boot log.
    #[n(3)]
    pub boot: Option<HeldBoot>,
    /// The IMA list.
    #[n(4)]
    pub ima: Option<Aggregate>,
    /// The first findings of the IMA list.
    #[n(5)]
    pub ima_findings: Bounded<LogFinding, IMA_FINDINGS_MAX>,
}

/// How far one evidence's IMA list goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ImaStanding {
    /// No zone asks for it.
    NotAsked,
    /// It replays to the quoted PCR 10.
    Proven,
    /// It does not, or not yet.
    NotProven(&'static str),
}

/// What one evidence's logs come to: made only by [`measure`].
#[derive(Debug, Clone)]
pub struct Measured {
    held: HeldLogs,
    ima: ImaStanding,
    not_measured: Vec<LogFinding>,
    userspace: UserspaceStanding,
}

/// Whether userspace's PCRs are those that the logs were held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UserspaceStanding {
    /// They are, or no zone looks at them.
    Held,
    /// They were until this quote: the next evidence brings the logs.
    Behind,
    /// They are not, and no logs came although they were wanted.
    Unheld,
}

impl Measured {
    /// What is to be kept when the evidence is committed.
    pub fn held(&self) -> &HeldLogs {
        &self.held
    }

    /// Why the boot log does not satisfy a zone that asks for it: the first finding, and how many there are. What speaks
    /// against the zone in the logs that came is told first: it does not wait for more of them.
    pub(super) fn boot_fault(&self, zone: &Zone) -> Option<(LogFinding, u32)> {
        let none = || finding("boot-log-missing", None, "no boot log of this boot came: does the kernel have one?");
        let Some(boot) = &self.held.boot else { return Some((none(), 1)) };
        match boot.zones.iter().find(|(name, _)| *name == zone.name) {
            Some((_, 0))
                if self.userspace == UserspaceStanding::Held || !userspace::is_selected(&zone.pcr_selection) =>
            {
                None
            }
            Some((_, 0)) => Some((finding(MEASURE_LOG_BEHIND, None, EXPLAIN_MEASURE_LOG_BEHIND), 1)),
            Some((_, count)) => {
                let first =
                    boot.findings.iter().find(|(name, _)| *name == zone.name).map(|(_, finding)| finding.clone());
                Some((first.unwrap_or_else(|| finding("boot-log", None, "more findings than are kept")), *count))
            }
            None => Some((none(), 1)),
        }
    }

    /// Whether a zone's fault in the boot log is only that the measure log is on its way: it was held until this quote.
    pub(super) fn is_boot_pending(&self, fault: &LogFinding) -> bool {
        self.userspace == UserspaceStanding::Behind && fault.code.as_str() == MEASURE_LOG_BEHIND
    }

    /// Whether the IMA list is on its way: a later part may prove it.
    pub(super) fn is_ima_pending(&self) -> bool {
        matches!(self.ima, ImaStanding::NotProven("ima-behind" | "ima-offset"))
    }

    /// Why the IMA list proves nothing in this evidence, if it does not.
    pub(super) fn ima_unproven(&self) -> Option<LogFinding> {
        match self.ima {
            ImaStanding::NotProven(why) => {
                let told = self.held.ima_findings.last().filter(|finding| finding.code.as_str() == why);
                Some(told.cloned().unwrap_or_else(|| finding(why, None, explain_unproven(why))))
            }
            _ => None,
        }
    }

    /// What ran on this boot that the allow-list does not know, or did not run and must: the first, and how many. Of a
    /// list that is on its way, what came so far says: more of it takes nothing back.
    pub(super) fn ima_unknown(&self) -> Option<(LogFinding, u64)> {
        let of_list = self.held.ima.map_or(0, |ima| ima.findings());
        let count = of_list + self.not_measured.len() as u64;
        let first = self.held.ima_findings.first().or(self.not_measured.first());
        (count > 0).then(|| {
            (
                first.cloned().unwrap_or_else(|| finding("ima-unknown-file", None, "found in an earlier increment")),
                count,
            )
        })
    }
}

fn explain_unproven(code: &str) -> &'static str {
    match code {
        "ima-missing" => "no IMA list came: boot with ima_policy=tcb, and let the agent read securityfs",
        "ima-not-quoted" => "PCR 10 is not quoted: add it to the zone's pcrs",
        "ima-behind" => "the list goes on: the next evidence brings more of it",
        "ima-offset" => "the list is wanted from another offset: the next evidence brings it",
        _ => "the list does not replay to the quoted PCR 10",
    }
}

pub(super) fn finding(code: &str, event: Option<u64>, detail: &str) -> LogFinding {
    LogFinding { code: Name::lossy(code), event, detail: Text::lossy(detail) }
}

impl HeldLogs {
    /// Nothing of the boot that `other` is of, to be judged by `zones`.
    pub(super) fn nothing(other: &Self, zones: &Zones) -> Self {
        Self::of_boot(other.boot_id, other.reset_count, zones.requirements())
    }

    fn of_boot(boot_id: BootId, reset_count: u32, requirements: Digest) -> Self {
        Self { boot_id, reset_count, requirements, boot: None, ima: None, ima_findings: Bounded::default() }
    }

    /// What the next evidence should bring, where zones ask as `zones` do; `held` is the host's record, if any.
    pub fn wanted(held: Option<&Self>, zones: &Zones) -> LogsWanted {
        let held = held.filter(|held| held.requirements == zones.requirements());
        let asks = !userspace::asked(zones).is_empty();
        LogsWanted {
            boot_log: zones.ask_boot_log(),
            ima_list: zones.ima_reference().is_some(),
            held_of: held.map(|held| held.boot_id),
            has_boot_log: held
                .and_then(|held| held.boot.as_ref())
                .is_some_and(|boot| !asks || boot.userspace.is_some()),
            ima_offset_bytes: held.and_then(|held| held.ima).map_or(0, |ima| ima.offset_bytes()),
            measure_log: asks,
            measure_log_held: held.and_then(|held| held.boot.as_ref()).and_then(|boot| boot.measure_log),
        }
    }
}

/// Judges the logs of verified evidence. `held` is what was kept of the evidence before, if anything.
pub fn measure(held: Option<&HeldLogs>, evidence: &VerifiedEvidence, zones: &Zones) -> Measured {
    let (boot_id, reset_count) = (evidence.claims().boot_id, evidence.clock().reset_count);
    let requirements = zones.requirements();
    let held = held
        .filter(|held| held.boot_id == boot_id && held.reset_count == reset_count && held.requirements == requirements);
    let mut next = held.cloned().unwrap_or_else(|| HeldLogs::of_boot(boot_id, reset_count, requirements));
    let asked = userspace::asked(zones);
    let values = boot_values(evidence.pcr_values(), &asked);
    let mut userspace = UserspaceStanding::Held;
    if zones.ask_boot_log() {
        let (of_userspace, of_boot): (Vec<_>, Vec<_>) =
            values.iter().copied().partition(|(index, _)| asked.contains(index));
        let digest = values_digest(&of_boot);
        // Values that moved on since are no longer what the log was held against.
        next.boot = next.boot.filter(|boot| boot.pcr_values == digest);
        let of_userspace = (!of_userspace.is_empty()).then(|| values_digest(&of_userspace));
        if let Some(log) = evidence.boot_log() {
            let logs = BootLogs { boot: log, measure: evidence.measure_log(), evidence: evidence.evidence_digest() };
            let judged = judge_boot(&logs, &values, digest, zones);
            next.boot = Some(HeldBoot { userspace: of_userspace, ..judged });
        } else if let Some(boot) = next.boot.as_mut().filter(|boot| boot.userspace != of_userspace) {
            let was_held = boot.userspace.take().is_some();
            userspace = if was_held { UserspaceStanding::Behind } else { UserspaceStanding::Unheld };
        }
    }
    let (ima, not_measured) = match zones.ima_reference() {
        Some(reference) => fold(&mut next, evidence, reference),
        None => (ImaStanding::NotAsked, Vec::new()),
    };
    Measured { held: next, ima, not_measured, userspace }
}

/// The quoted values that the logs of a boot must replay to, by index; those of `userspace` among them.
fn boot_values<'a>(values: &'a [PcrValue], userspace: &BTreeSet<u8>) -> Vec<(u8, &'a [u8])> {
    let is_wanted = |index: u8| BOOT_PCRS.contains(&index) || userspace.contains(&index);
    let of_boot = values.iter().filter(|value| value.hash_alg == SHA256 && is_wanted(value.index));
    of_boot.map(|value| (value.index, value.value.as_slice())).collect()
}

fn values_digest(values: &[(u8, &[u8])]) -> Digest {
    let parts: Vec<Vec<u8>> = values.iter().map(|(index, value)| [&[*index], *value].concat()).collect();
    Digest::of(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// The logs of one boot, as one evidence brings them.
struct BootLogs<'a> {
    boot: &'a [u8],
    measure: Option<&'a [u8]>,
    evidence: Digest,
}

fn judge_boot(logs: &BootLogs<'_>, values: &[(u8, &[u8])], pcr_values: Digest, zones: &Zones) -> HeldBoot {
    let mut boot = HeldBoot {
        evidence: logs.evidence,
        log: Digest::of(&[logs.boot]),
        pcr_values,
        secure_boot: None,
        zones: Bounded::default(),
        findings: Bounded::default(),
        measure_log: None,
        userspace: None,
    };
    let judged = match EventLog::parse(logs.boot) {
        Ok(log) => Judged::new(&log, logs.measure, values),
        Err(error) => Judged::unreadable(&error.to_string()),
    };
    (boot.secure_boot, boot.measure_log) = (judged.secure_boot, judged.userspace.held());
    let (mut counts, mut told) = (Vec::new(), Vec::new());
    for zone in zones.as_slice() {
        let Some(requirement) = &zone.boot else { continue };
        let findings = judged.by(zone, requirement);
        counts.push((zone.name.clone(), u32::try_from(findings.len()).unwrap_or(u32::MAX)));
        told.extend(findings.into_iter().map(|finding| (zone.name.clone(), finding)).take(LOG_FINDINGS_MAX / 2));
    }
    (boot.zones, boot.findings) = (Bounded::truncating(counts).0, Bounded::truncating(told).0);
    boot
}

/// A boot log beside the quoted values, before any zone looks at it.
struct Judged {
    /// Why nothing in it can be believed; empty when it replays.
    untrue: Vec<LogFinding>,
    problems: Vec<(ProblemCode, LogFinding)>,
    secure_boot: Option<bool>,
    stages: BootStages,
    quoted: BTreeSet<u8>,
    userspace: Userspace,
}

impl Judged {
    fn unreadable(error: &str) -> Self {
        Self {
            untrue: vec![finding("boot-log-malformed", None, error)],
            problems: Vec::new(),
            secure_boot: None,
            stages: BootStages::default(),
            quoted: BTreeSet::new(),
            userspace: Userspace::default(),
        }
    }

    fn new(log: &EventLog<'_>, measure: Option<&[u8]>, values: &[(u8, &[u8])]) -> Self {
        let quoted: BTreeSet<u8> = values.iter().map(|(index, _)| *index).collect();
        let replay = log.replay();
        // A PCR that the log does not extend is silent, not untrue, as long as nobody extended it.
        let untouched = |index: &u8| replay.value(Bank::Sha256, *index).is_none();
        let given = values.iter().copied().filter(|(index, _)| BOOT_PCRS.contains(index));
        let given = given.filter(|(index, value)| !untouched(index) || value.iter().any(|b| *b != 0));
        let untrue = compare(&replay, Bank::Sha256, given).into_iter().map(|mismatch| {
            let detail = match mismatch.code {
                MismatchCode::Value => {
                    format!("PCR {} of the log is not the quoted one: the log is not what booted", mismatch.pcr)
                }
                _ => format!("PCR {} was extended by something that the log does not record", mismatch.pcr),
            };
            finding(mismatch.code.code(), None, &detail)
        });
        let untrue: Vec<LogFinding> = untrue.collect();
        let boot = secure_boot(log);
        let problems = log.problems().into_iter().chain(boot.problems);
        let problems = problems.map(|problem| {
            let told = finding(problem.code.code(), problem.event.map(u64::from), problem.detail.as_str());
            (problem.code, told)
        });
        Self {
            secure_boot: boot.state.filter(|_| untrue.is_empty() && quoted.contains(&7)),
            problems: problems.collect(),
            stages: boot_stages(log),
            untrue,
            quoted,
            userspace: Userspace::judge(&replay, measure, values),
        }
    }

    fn by(&self, zone: &Zone, requirement: &BootRequirement) -> Vec<LogFinding> {
        if !self.untrue.is_empty() {
            return self.untrue.clone();
        }
        let mut findings = Vec::new();
        if let Some(wanted) = requirement.secure_boot.filter(|wanted| self.secure_boot != Some(*wanted)) {
            let word = |state: Option<bool>| state.map_or("not known", |on| if on { "on" } else { "off" });
            let detail = format!("Secure Boot is {}, the zone wants it {}", word(self.secure_boot), word(Some(wanted)));
            findings.push(finding("secure-boot", None, &detail));
        }
        let problems = self.problems.iter().filter(|(code, _)| !requirement.accept.contains(code));
        findings.extend(problems.map(|(_, finding)| finding.clone()));
        // PCRs of userspace are held against the logs only where the zone selects them itself.
        let selects = |index| zone.pcr_selection.iter().any(|pcr| pcr == (SHA256, index));
        let is_proven = |index| self.quoted.contains(&index) && (!USERSPACE_PCRS.contains(&index) || selects(index));
        findings.extend(stages::findings(&self.stages, &requirement.stages, is_proven));
        findings.extend(self.userspace.findings(&zone.pcr_selection, requirement, &self.stages));
        findings
    }
}

fn fold(next: &mut HeldLogs, evidence: &VerifiedEvidence, reference: &Reference) -> (ImaStanding, Vec<LogFinding>) {
    let quoted =
        evidence.pcr_values().iter().find(|value| (value.hash_alg, u32::from(value.index)) == (SHA256, ima::IMA_PCR));
    let Some(quoted) = quoted.and_then(|value| <[u8; 32]>::try_from(value.value.as_slice()).ok()) else {
        return (ImaStanding::NotProven("ima-not-quoted"), Vec::new());
    };
    let Some(ImaIncrement { form, offset_bytes, bytes, has_more }) = evidence.ima() else {
        return (ImaStanding::NotProven("ima-missing"), Vec::new());
    };
    let (reset_count, form) = (next.reset_count, list_form(*form));
    let start = Aggregate::start(reset_count, form, reference.digest());
    let held = next.ima.unwrap_or(start);
    let increment = Increment { reset_count, form, offset_bytes: *offset_bytes, bytes, has_more: *has_more };
    let folded = ima::fold(&held, increment, &Digest::new(quoted), reference);
    if folded.state.offset_bytes() < held.offset_bytes() || *offset_bytes == 0 {
        // The list was begun anew: so are its findings.
        next.ima_findings = Bounded::default();
    }
    next.ima = Some(folded.state);
    let mut told = next.ima_findings.to_vec();
    let new = folded.findings.told().iter();
    told.extend(new.map(|one| finding(one.code.as_str(), Some(one.entry), &one.detail)));
    let last = told.last().cloned();
    next.ima_findings = Bounded::truncating(told).0;
    match folded.outcome {
        Outcome::Proven => {
            let missing = ima::not_measured(&folded.state, reference);
            let missing = missing.told().iter().map(|one| finding(one.code.as_str(), None, &one.detail)).collect();
            (ImaStanding::Proven, missing)
        }
        Outcome::Behind => (ImaStanding::NotProven("ima-behind"), Vec::new()),
        Outcome::SendFrom => (ImaStanding::NotProven("ima-offset"), Vec::new()),
        Outcome::Refused => {
            // What refuses the list is told last, and a list that is not true has no findings of its own.
            next.ima_findings = Bounded::truncating(last.into_iter().collect()).0;
            (ImaStanding::NotProven("ima-pcr-mismatch"), Vec::new())
        }
    }
}

const fn list_form(form: ImaForm) -> ListForm {
    match form {
        ImaForm::BinarySha1 => ListForm::BinarySha1,
        ImaForm::BinarySha256 => ListForm::BinarySha256,
    }
}
