//! A dry run of zones over the evidence that the store keeps: reads, and changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use quotary_common::id::Digest;
use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{FindingView, ZoneCheckOutcome, ZoneCheckView};
use quotary_decide::attest::{Appraisal, DryRun, LearnedReferences, LogFinding, RecordedEvidence, Zones};
use tokio_util::sync::CancellationToken;

use super::tables::{self, SequenceRow};
use super::view::HostSnapshot;
use crate::store::{Partition, READ_ROWS_MAX, Reader, Scan, StoreError};

/// Zones to try.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DryZones<'z> {
    /// Those to try.
    pub(crate) zones: &'z Zones,
    /// Those in force: what they do not ask for is not recorded.
    pub(crate) in_force: &'z Zones,
    /// Now, Unix ms.
    pub(crate) now_ms: u64,
}

/// Why a dry run came to no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// Nobody waits for it, or the verifier stops.
    #[error("the dry run was broken off")]
    Stopped,
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How each host would stand in `dry`'s zones, which have learned what `learned` says; a host may teach them for those
/// after it, as it would in truth. Ends soon after `stop` is cancelled.
///
/// # Errors
/// [`CheckError`].
pub(crate) fn check_zones(
    dry: &DryZones<'_>,
    learned: &mut LearnedReferences,
    hosts: &[Arc<HostSnapshot>],
    reader: &Mutex<Box<dyn Reader>>,
    stop: &CancellationToken,
) -> Result<Vec<ZoneCheckView>, CheckError> {
    let mut views = Vec::with_capacity(hosts.len());
    for snapshot in hosts {
        let mut view = unknown(snapshot, dry.now_ms);
        if let Some((at_ms, why)) = &snapshot.host.progress.revoked {
            let detail = format!("an operator revoked the host at {at_ms} (Unix ms): {why}");
            view.failed = vec![(&Refusal::new(Reason::Revoked, detail)).into()];
            view.outcome = ZoneCheckOutcome::StaysOut;
            views.push(view);
            continue;
        }
        match recorded(dry, snapshot, reader, stop)? {
            Ok((run, evidence)) => {
                view.evidence = Some(evidence);
                let host = snapshot.host.enrolled();
                if let Some(appraisal) = run.outcome(host, learned) {
                    let unrecorded = run.unrecorded(host, view.zone_now.as_deref(), &appraisal);
                    tell(&mut view, &appraisal, unrecorded);
                    // What is not known to be so teaches nobody.
                    learned.extend(appraisal.learned.filter(|_| view.outcome != ZoneCheckOutcome::Unknown));
                }
            }
            Err(why) => view.unknown = Some(why),
        }
        views.push(view);
    }
    Ok(views)
}

/// What of the host's kept evidence is to be judged, and its last; `Err` says why there is none.
type Recorded<'z> = Result<(DryRun<'z>, Digest), String>;

fn recorded<'z>(
    dry: &DryZones<'z>,
    snapshot: &'z HostSnapshot,
    reader: &Mutex<Box<dyn Reader>>,
    stop: &CancellationToken,
) -> Result<Recorded<'z>, CheckError> {
    let (record, progress) = (&snapshot.host.record, &snapshot.host.progress);
    let Some(last) = progress.evidence else { return Ok(Err("no evidence of this host was accepted yet".to_owned())) };
    let mut run = DryRun::new(dry.zones, dry.in_force, progress.logs.as_ref());
    let partition = Partition::of_host(&record.host);
    let kept = Kept { partition, reader, stop };
    let read = |digest: Digest| -> Result<Result<RecordedEvidence, String>, CheckError> {
        let Some(bytes) = kept.evidence(&digest)? else {
            return Ok(Err(format!("evidence {} is no longer kept", digest.hex())));
        };
        Ok(RecordedEvidence::of(bytes, snapshot.host.enrolled())
            .map_err(|refusal| format!("evidence {} does not hold: {refusal}", digest.hex())))
    };
    let boot = run.boot_evidence().filter(|boot| *boot != last);
    if let Some(reset_count) = run.ima_boot() {
        let scan = Scan::all(tables::SEQUENCES).partition(partition).prefix(tables::sequence_prefix(record));
        let mut scan = scan.limit(READ_ROWS_MAX);
        loop {
            let rows = lock(reader).scan(&scan)?;
            let Some(newest) = rows.last() else { break };
            scan = scan.after(newest);
            for evidence in rows.iter().filter_map(|row| SequenceRow::from_bytes(&row.value)).map(|row| row.evidence) {
                let is_boot = Some(evidence) == boot;
                if evidence == last || !(is_boot || brings_ima(kept.evidence(&evidence)?.as_deref(), reset_count)) {
                    continue;
                }
                match read(evidence)? {
                    Ok(evidence) => run.take(evidence),
                    Err(why) if is_boot => return Ok(Err(why)),
                    // What was pruned meanwhile is a gap in the IMA list that the judgement tells of.
                    Err(_) => {}
                }
            }
        }
    } else if let Some(boot) = boot {
        match read(boot)? {
            Ok(evidence) => run.take(evidence),
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(read(last)?.map(|evidence| {
        run.take_last(evidence);
        (run, last)
    }))
}

/// One host's kept evidence.
struct Kept<'r> {
    partition: Partition,
    reader: &'r Mutex<Box<dyn Reader>>,
    stop: &'r CancellationToken,
}

impl Kept<'_> {
    /// The lock is let go between reads: evidence that comes in goes first.
    fn evidence(&self, digest: &Digest) -> Result<Option<Vec<u8>>, CheckError> {
        if self.stop.is_cancelled() {
            return Err(CheckError::Stopped);
        }
        Ok(lock(self.reader).get(tables::EVIDENCE, self.partition, digest.as_bytes())?)
    }
}

fn brings_ima(evidence: Option<&[u8]>, reset_count: u32) -> bool {
    evidence.is_some_and(|evidence| RecordedEvidence::brings_ima(evidence, reset_count))
}

fn lock(reader: &Mutex<Box<dyn Reader>>) -> std::sync::MutexGuard<'_, Box<dyn Reader>> {
    reader.lock().unwrap_or_else(PoisonError::into_inner)
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

fn tell(view: &mut ZoneCheckView, appraisal: &Appraisal, unrecorded: Option<String>) {
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
    if unrecorded.is_some() {
        (view.zone_then, view.teaches, view.unknown) = (None, false, unrecorded);
        return;
    }
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::store::{Row, Table};

    /// A store with one row, the same under every key.
    struct OneRow;

    impl Reader for OneRow {
        fn get(&self, _: Table, _: Partition, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(Some(vec![1]))
        }
        fn scan(&self, _: &Scan) -> Result<Vec<Row>, StoreError> {
            Ok(Vec::new())
        }
        fn leaf(&self, _: u64) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(None)
        }
        fn leaves(&self, _: u64, _: usize) -> Result<Vec<Vec<u8>>, StoreError> {
            Ok(Vec::new())
        }
        fn leaf_count(&self) -> Result<u64, StoreError> {
            Ok(0)
        }
    }

    #[test]
    fn nothing_more_is_read_once_nobody_waits() {
        let (reader, stop) = (Mutex::new(Box::new(OneRow) as Box<dyn Reader>), CancellationToken::new());
        let kept = Kept { partition: Partition::Deployment, reader: &reader, stop: &stop };
        let digest = Digest::of(&[b"evidence"]);
        assert_eq!(kept.evidence(&digest).unwrap(), Some(vec![1]));
        drop(stop.clone().drop_guard());
        assert!(matches!(kept.evidence(&digest), Err(CheckError::Stopped)));
    }
}
