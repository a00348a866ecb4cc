//! What the running system measured after the firmware handed over: PCRs 11, 12, 13 and 15, held against the boot log and
//! systemd's measure log together.
//!
//! Each PCR is proven by itself: the quote says how far its records go, and a record behind that was measured after the
//! quote and waits for the next one. What no quoted PCR carries is a claim, and left out.

use std::collections::{BTreeMap, BTreeSet};

use quotary_common::id::Digest;
use quotary_common::tpm::PcrSelection;

use super::Zones;
use super::logs::{BootRequirement, LogFinding, SHA256, finding};
use crate::eventlog::{Bank, BankDigest, BootStages, MeasureLog, MeasureRecord, Replay, Stage};

/// PCRs that systemd extends while the system runs: phases and unified kernel image, overridden command line and
/// credentials, system extensions, the system's identity.
pub const USERSPACE_PCRS: [u8; 4] = [11, 12, 13, 15];

/// The PCRs that some zone with a boot requirement wants to follow from the logs.
pub(super) fn asked(zones: &Zones) -> BTreeSet<u8> {
    let of_boot = zones.as_slice().iter().filter(|zone| zone.boot.is_some());
    of_boot.flat_map(|zone| selected(&zone.pcr_selection)).collect()
}

/// Whether `selection` looks at what userspace extends.
pub(super) fn is_selected(selection: &PcrSelection) -> bool {
    selected(selection).next().is_some()
}

fn selected(selection: &PcrSelection) -> impl Iterator<Item = u8> {
    selection.iter().filter(|(bank, index)| *bank == SHA256 && USERSPACE_PCRS.contains(index)).map(|(_, index)| index)
}

/// A measurement that a quoted PCR carries.
struct Proven {
    record: u32,
    digest: [u8; 32],
    said: String,
}

/// A measure log beside the quoted values, before any zone looks at it.
#[derive(Default)]
pub(super) struct Userspace {
    /// By PCR: what was measured into it, or why it does not follow from the logs.
    pcrs: BTreeMap<u8, Result<Vec<Proven>, LogFinding>>,
    /// SHA-256 of as much of the log as needs not come again; none when no log came.
    held: Option<Digest>,
}

impl Userspace {
    /// Replays `log` on top of the boot log's `replay`, up to the quoted `values` of the SHA-256 bank.
    pub(super) fn judge(replay: &Replay, log: Option<&[u8]>, values: &[(u8, &[u8])]) -> Self {
        let parsed = log.map(MeasureLog::parse);
        let (records, fault) = match &parsed {
            Some(Ok(parsed)) => (parsed.records(), None),
            Some(Err(error)) => (&[] as &[MeasureRecord], Some(error.to_string())),
            None => (&[] as &[MeasureRecord], None),
        };
        let mut pcrs = BTreeMap::new();
        let mut end_bytes = log.map_or(0, <[u8]>::len);
        for (pcr, quoted) in values.iter().copied().filter(|(pcr, _)| USERSPACE_PCRS.contains(pcr)) {
            let of_pcr: Vec<&MeasureRecord> = records.iter().filter(|record| record.pcr() == pcr).collect();
            let standing = match carried(replay, pcr, &of_pcr, quoted) {
                Some(count) => {
                    let (carried, later) = of_pcr.split_at(count.min(of_pcr.len()));
                    end_bytes = later.first().map_or(end_bytes, |record| end_bytes.min(record.offset_bytes()));
                    Ok(carried.iter().filter_map(|record| proven(record)).collect())
                }
                None => Err(unproven(pcr, of_pcr.len(), log.is_some(), fault.as_deref())),
            };
            pcrs.insert(pcr, standing);
        }
        let held = log.map(|log| Digest::of(&[log.get(..end_bytes).unwrap_or(log)]));
        Self { pcrs, held }
    }

    /// SHA-256 of as much of the log as the quote covers; of all of it where some PCR follows from no part.
    pub(super) fn held(&self) -> Option<Digest> {
        self.held
    }

    /// What speaks against a zone that selects `selection` and asks as `requirement` does; `stages` are the boot log's.
    ///
    /// A PCR does not say which of the two logs a measurement belongs to, so none escapes by standing in the other one:
    /// where the zone says what userspace may measure, the boot log's events in these PCRs are of their stage's list or of
    /// that; where it names a stage of these PCRs, so are the records.
    pub(super) fn findings(
        &self,
        selection: &PcrSelection,
        requirement: &BootRequirement,
        stages: &BootStages,
    ) -> Vec<LogFinding> {
        let mut findings = Vec::new();
        for (pcr, standing) in selected(selection).filter_map(|pcr| Some((pcr, self.pcrs.get(&pcr)?))) {
            let measured = match standing {
                Ok(measured) => measured,
                Err(fault) => {
                    findings.push(fault.clone());
                    continue;
                }
            };
            let (of_stage, of_userspace) = (requirement.stages.get(&Stage::of_pcr(pcr)), &requirement.userspace);
            let is_blessed = |digest: &[u8; 32]| {
                of_stage.is_some_and(|known| known.contains(digest))
                    || of_userspace.as_ref().is_some_and(|known| known.contains(digest))
            };
            let mut unknown = |event, what: String, digest: &[u8; 32], said: &str| {
                let hex = data_encoding::HEXLOWER.encode(digest);
                let detail = format!("{what} (PCR {pcr}): {hex} is not among the zone's: {said}");
                findings.push(finding("userspace-unknown", event, &detail));
            };
            if of_userspace.is_some() && of_stage.is_none() {
                for one in stages.measurements().iter().filter(|one| one.pcr == pcr && !is_blessed(&one.digest)) {
                    let said = one.text.as_ref().map_or("", |text| text.as_str());
                    unknown(Some(one.event.into()), "boot log".to_owned(), &one.digest, said);
                }
            }
            if of_userspace.is_some() || of_stage.is_some() {
                for one in measured.iter().filter(|one| !is_blessed(&one.digest)) {
                    unknown(None, format!("measure log, record {}", one.record), &one.digest, &one.said);
                }
            }
        }
        findings
    }
}

/// The records of `log` that the `quoted` value of `pcr` (SHA-256 bank) carries on top of the boot log's `replay`; `None`
/// when it follows from no number of them. What stands behind them in the log is a claim.
pub fn carried_records<'l>(
    replay: &Replay,
    log: &'l MeasureLog,
    pcr: u8,
    quoted: &[u8],
) -> Option<Vec<&'l MeasureRecord>> {
    let mut records: Vec<&MeasureRecord> = log.records().iter().filter(|record| record.pcr() == pcr).collect();
    let count = carried(replay, pcr, &records, quoted)?;
    records.truncate(count);
    Some(records)
}

/// How many of the records that extend `pcr` its quoted value carries, the most that fit; `None` when no number does.
fn carried(replay: &Replay, pcr: u8, records: &[&MeasureRecord], quoted: &[u8]) -> Option<usize> {
    let mut value: BankDigest = *replay.expected(Bank::Sha256, pcr)?;
    let mut count = (value.as_bytes() == quoted).then_some(0);
    for (place, record) in records.iter().enumerate() {
        // A record without a digest in this bank extends nothing there.
        if let Some(digest) = record.digest(Bank::Sha256) {
            value = Bank::Sha256.digest(&[value.as_bytes(), digest.as_bytes()]);
        }
        if value.as_bytes() == quoted {
            count = Some(place + 1);
        }
    }
    count
}

fn proven(record: &MeasureRecord) -> Option<Proven> {
    let digest = <[u8; 32]>::try_from(record.digest(Bank::Sha256)?.as_bytes()).ok()?;
    let claimed = if record.text_measured() { "" } else { "(claimed) " };
    let said = record.text().map_or("", |text| text.as_str());
    Some(Proven { record: record.number(), digest, said: format!("{claimed}{said}") })
}

fn unproven(pcr: u8, records: usize, has_log: bool, fault: Option<&str>) -> LogFinding {
    match fault {
        Some(fault) => finding("measure-log-malformed", None, &format!("PCR {pcr} cannot be told: {fault}")),
        None if !has_log => finding(
            "measure-log-missing",
            None,
            &format!(
                "PCR {pcr} was extended after the boot log ended, and no measure log came: does systemd keep one, and does \
                 the agent send it?"
            ),
        ),
        None => finding(
            "userspace-mismatch",
            None,
            &format!(
                "PCR {pcr} does not follow from the boot log and the measure log's {records} records for it: something \
                 else extended it, or records are missing"
            ),
        ),
    }
}
