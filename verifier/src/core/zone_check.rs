//! A dry run of zones over the evidence that the store keeps: reads, and changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use quotary_common::evidence::Evidence;
use quotary_common::id::Digest;
use quotary_common::wire::{FindingView, ZoneCheckOutcome, ZoneCheckView};
use quotary_decide::attest::{Appraisal, DryRun, LearnedReferences, LogFinding, RecordedEvidence, Zones};

use super::tables::{self, SequenceRow};
use super::view::HostSnapshot;
use crate::store::{Partition, READ_ROWS_MAX, Reader, Scan, StoreError};

/// How each host would stand in `zones`, which have learned what `learned` says; a host may teach them for those after
/// it, as it would in truth.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub(crate) fn check_zones(
    zones: &Zones,
    mut learned: LearnedReferences,
    hosts: &[Arc<HostSnapshot>],
    reader: &Mutex<Box<dyn Reader>>,
    now_ms: u64,
) -> Result<Vec<ZoneCheckView>, StoreError> {
    let mut views = Vec::with_capacity(hosts.len());
    for snapshot in hosts {
        let mut view = unknown(snapshot, now_ms);
        match recorded(zones, snapshot, reader)? {
            Ok((run, evidence)) => {
                view.evidence = Some(evidence);
                if let Some((appraisal, _)) = run.outcome(snapshot.host.enrolled(), &learned) {
                    tell(&mut view, &appraisal);
                    learned.extend(appraisal.learned);
                }
            }
            Err(why) => view.unknown = Some(why),
        }
        views.push(view);
    }
    Ok(views)
}

/// The host's kept evidence of this enrolment that says something of its logs, and its last; `Err` says why there is none.
type Recorded<'z> = Result<(DryRun<'z>, Digest), String>;

fn recorded<'z>(
    zones: &'z Zones,
    snapshot: &HostSnapshot,
    reader: &Mutex<Box<dyn Reader>>,
) -> Result<Recorded<'z>, StoreError> {
    let (record, progress) = (&snapshot.host.record, &snapshot.host.progress);
    let Some(last) = progress.evidence else { return Ok(Err("no evidence of this host was accepted yet".to_owned())) };
    let partition = Partition::of_host(&record.host);
    let mut run = DryRun::new(zones);
    let mut take = |digest: Digest| -> Result<Result<(), String>, StoreError> {
        // The lock is let go between reads: evidence that comes in goes first.
        let bytes = lock(reader).get(tables::EVIDENCE, partition, digest.as_bytes())?;
        let Some(bytes) = bytes else { return Ok(Err(format!("evidence {} is no longer kept", digest.hex()))) };
        if digest != last && !has_logs(&bytes) {
            return Ok(Ok(()));
        }
        Ok(RecordedEvidence::of(bytes, snapshot.host.enrolled())
            .map(|evidence| run.take(evidence))
            .map_err(|refusal| format!("evidence {} does not hold: {refusal}", digest.hex())))
    };
    if zones.ask_boot_log() || zones.ima_reference().is_some() {
        let scan = Scan::all(tables::SEQUENCES).partition(partition).prefix(tables::sequence_prefix(record));
        let mut scan = scan.limit(READ_ROWS_MAX);
        loop {
            let rows = lock(reader).scan(&scan)?;
            let Some(newest) = rows.last() else { break };
            scan = scan.after(newest);
            for row in rows.iter().filter_map(|row| SequenceRow::from_bytes(&row.value)) {
                if row.evidence != last {
                    // What was pruned meanwhile, or does not read, is a gap that the judgement tells of.
                    let _gap = take(row.evidence)?.is_err();
                }
            }
        }
    }
    Ok(take(last)?.map(|()| (run, last)))
}

fn lock(reader: &Mutex<Box<dyn Reader>>) -> std::sync::MutexGuard<'_, Box<dyn Reader>> {
    reader.lock().unwrap_or_else(PoisonError::into_inner)
}

fn has_logs(evidence: &[u8]) -> bool {
    Evidence::from_bytes(evidence).is_ok_and(|evidence| evidence.boot_log.is_some() || evidence.ima.is_some())
}

fn unknown(snapshot: &HostSnapshot, now_ms: u64) -> ZoneCheckView {
    let (record, progress) = (&snapshot.host.record, &snapshot.host.progress);
    let zone_now = progress.zone.as_ref().filter(|_| snapshot.host.is_trusted(now_ms));
    ZoneCheckView {
        host: record.host,
        id: record.host.to_string(),
        hostname: progress.seen.as_ref().map(|seen| seen.hostname.as_str().to_owned()),
        outcome: ZoneCheckOutcome::Unknown,
        zone_now: zone_now.map(|zone| zone.as_str().to_owned()),
        zone_then: None,
        teaches: false,
        failed: Vec::new(),
        warnings: Vec::new(),
        evidence: None,
        unknown: None,
    }
}

fn tell(view: &mut ZoneCheckView, appraisal: &Appraisal) {
    view.zone_then = appraisal.zone.as_ref().map(|zone| zone.as_str().to_owned());
    view.teaches = appraisal.learned.is_some();
    view.failed = appraisal.reasons.iter().chain(&appraisal.revoke).map(Into::into).collect();
    let warning = |finding: &LogFinding| FindingView {
        zone: None,
        code: finding.code.as_str().to_owned(),
        event: finding.event,
        detail: finding.detail.as_str().to_owned(),
    };
    view.warnings = appraisal.warnings.iter().map(warning).collect();
    if !appraisal.pending.is_empty() && appraisal.zone.is_none() {
        view.unknown = Some("what is kept of its logs does not reach its quoted PCRs".to_owned());
        return;
    }
    view.outcome = match (&view.zone_now, &view.zone_then) {
        _ if appraisal.revoke.is_some() => ZoneCheckOutcome::IsRevoked,
        (Some(now), Some(then)) if now == then => ZoneCheckOutcome::Stays,
        (Some(_), Some(_)) => ZoneCheckOutcome::Moves,
        (Some(_), None) => ZoneCheckOutcome::Leaves,
        (None, Some(_)) => ZoneCheckOutcome::Enters,
        (None, None) => ZoneCheckOutcome::StaysOut,
    };
}
