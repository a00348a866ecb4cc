//! Fills the history after a restart: chunks first, then the kept evidence that no chunk holds.

use quotary_common::id::HostId;
use quotary_decide::allocate::{GrantRecord, Rules};
use quotary_decide::history::{
    BoundedLoad, Bounds, CHUNK_EVIDENCE_MAX, Chunk, HOUR_MS, Resolution, Standing, Watermark,
};
use tokio_util::sync::CancellationToken;

use super::feed::{Feed, Replayed};
use crate::config::Times;
use crate::core::{HostSnapshot, tables};
use crate::store::{Partition, READ_ROWS_MAX, Reader, Scan};

/// Evidence per host that is read back at most: as much as a chunk waits for, and what came while it was on its way.
const REPLAY_PER_HOST: u64 = 2 * CHUNK_EVIDENCE_MAX;
/// Rows of evidence that are read: one more, whose time bounds the first.
const ROWS_MAX: usize = 481;
const _: () = assert!(ROWS_MAX as u64 == REPLAY_PER_HOST + 1 && ROWS_MAX <= READ_ROWS_MAX);
/// Rows of chunks that are read at once.
const CHUNKS_AT_ONCE: usize = 64;

/// What it takes to read the history back.
pub struct Replaying {
    /// Hosts as they were before anything new was committed.
    pub hosts: Vec<std::sync::Arc<HostSnapshot>>,
    /// Who an application without a grant is.
    pub rules: Rules,
    /// Times.
    pub timing: Times,
    /// The verifier's clock at the start, Unix ms.
    pub now_ms: u64,
}

/// Reads the history back until `stop` is cancelled.
pub fn replay(replaying: &Replaying, reader: &dyn Reader, feed: &Feed, stop: &CancellationToken) {
    let (_, mut chunks) = read_chunks(None, replaying, reader, feed, stop);
    for snapshot in &replaying.hosts {
        let host = snapshot.host.record.host;
        let (watermark, has_read) = read_chunks(Some(host), replaying, reader, feed, stop);
        chunks &= has_read;
        if stop.is_cancelled() || !read_evidence(snapshot, watermark, replaying, reader, feed, stop) {
            return;
        }
    }
    if !chunks {
        tracing::warn!("some chunks of history did not read: there are gaps");
    }
    feed.replay(Replayed::End);
}

/// Hands over a host's chunks (none: those of sums) as far back as the rings reach; up to where those that read reach, and whether
/// all of them read. What one that did not read held is a gap: read again from evidence, others would count twice.
fn read_chunks(
    host: Option<HostId>,
    replaying: &Replaying,
    reader: &dyn Reader,
    feed: &Feed,
    stop: &CancellationToken,
) -> (Watermark, bool) {
    let (partition, prefix) = tables::history_prefix(host.as_ref());
    let reach_ms = HOUR_MS.saturating_mul(Resolution::Hour.points_max() as u64);
    let oldest = tables::history_key(host.as_ref(), replaying.now_ms.saturating_sub(reach_ms), 0);
    let mut scan = Scan::all(tables::HISTORY).partition(partition).prefix(prefix).limit(CHUNKS_AT_ONCE);
    scan.after = Some((partition, oldest));
    let (mut watermark, mut has_read) = (Watermark::default(), true);
    loop {
        let rows = match reader.scan(&scan) {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(host = ?host, %error, "chunks of history cannot be read");
                return (watermark, false);
            }
        };
        let Some(last) = rows.last() else { return (watermark, has_read) };
        scan = scan.after(last);
        for row in rows {
            match Chunk::from_bytes(&row.value) {
                Ok(chunk) => {
                    watermark = watermark.max(chunk.watermark);
                    if stop.is_cancelled() || !feed.replay(Replayed::Chunk(host, chunk)) {
                        return (watermark, false);
                    }
                }
                Err(error) => {
                    tracing::warn!(host = ?host, %error, "a chunk of history does not read: a gap");
                    has_read = false;
                }
            }
        }
    }
}

/// Hands over a host's kept evidence after `watermark`, oldest first; whether anybody is there.
fn read_evidence(
    snapshot: &HostSnapshot,
    watermark: Watermark,
    replaying: &Replaying,
    reader: &dyn Reader,
    feed: &Feed,
    stop: &CancellationToken,
) -> bool {
    let (record, last, timing) = (&snapshot.host.record, snapshot.host.progress.sequence, replaying.timing);
    let partition = Partition::of_host(&record.host);
    let held = if watermark.enrolled_at_ms == record.enrolled_at_ms { watermark.sequence } else { 0 };
    // One more than is handed over: its time bounds the next.
    let first = held.max(last.saturating_sub(REPLAY_PER_HOST)).saturating_sub(1);
    let mut scan =
        Scan::all(tables::SEQUENCES).partition(partition).prefix(tables::sequence_prefix(record)).limit(ROWS_MAX);
    scan.after = Some((partition, tables::sequence_key(record, first)));
    let rows = reader.scan(&scan).unwrap_or_else(|error| {
        tracing::warn!(host = %record.host, %error, "the history starts with what chunks hold");
        Vec::new()
    });
    let grants: Vec<&GrantRecord> = snapshot.grants.iter().map(|entry| &entry.record).collect();
    let standing = Standing {
        enrolled_at_ms: record.enrolled_at_ms,
        pool: snapshot.host.progress.zone.as_ref(),
        capacity: record.capacity,
        grants: &grants,
        rules: &replaying.rules,
    };
    let (mut before, mut since_ms) = (None, None);
    for row in rows {
        let sequence = row.key.split_last_chunk::<8>().map_or(0, |(_, number)| u64::from_be_bytes(*number));
        let Some(row) = tables::SequenceRow::from_bytes(&row.value) else { continue };
        if stop.is_cancelled() {
            return false;
        }
        // What is newer than the snapshot is fed as it is committed.
        if sequence > last {
            return true;
        }
        let now_ms = row.committed_at_ms;
        let bounds = Bounds {
            capacity: record.capacity,
            before: before.take(),
            since_ms: since_ms.replace(now_ms).unwrap_or(now_ms.saturating_sub(timing.evidence_ms)),
            now_ms,
            window_ms: timing.window_ms,
            wait_ms: timing.lease_ms,
        };
        let kept = reader.get(tables::EVIDENCE, partition, row.evidence.as_bytes()).ok().flatten();
        let load = kept.and_then(|bytes| BoundedLoad::kept(&bytes, &bounds));
        let Some(load) = load.filter(|load| load.host() == record.host) else {
            tracing::warn!(host = %record.host, "kept evidence does not read: a gap in its history");
            continue;
        };
        before = Some(load.timeline());
        let load = load.placed(&standing);
        let replayed = if sequence > held { Replayed::Load(load, now_ms) } else { Replayed::Place(load) };
        if !feed.replay(replayed) {
            return false;
        }
    }
    true
}
