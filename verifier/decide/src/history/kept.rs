//! What no chunk holds yet, when it is due, and how chunks come back.

use std::collections::BTreeMap;

use quotary_common::id::HostId;

use super::chunk::{Chunk, ChunkSeries, Watermark};
use super::pressure::Pressure;
use super::{HOUR_MS, History, Measure, Point, Series, SeriesKey, Subject, series_at};

/// A host's chunk is due after so much evidence: what a restart reads again is bounded by it.
pub const CHUNK_EVIDENCE_MAX: u64 = 240;
/// A host's chunk is due after so many points, whatever brought them.
const CHUNK_POINTS_MAX: usize = 60_000;

/// The finest points of one host (or of sums) that no chunk holds yet.
#[derive(Debug, Default)]
pub(super) struct Unkept {
    since_ms: Option<u64>,
    evidence: u64,
    watermark: Watermark,
    /// Where the chunk before reached.
    begins: Watermark,
    points: BTreeMap<(Subject, Measure), BTreeMap<u64, Point>>,
    count: usize,
}

impl Unkept {
    /// Adds what ended at `end_ms`.
    pub(super) fn add(&mut self, (subject, measure): (&Subject, Measure), number: u64, point: &Point) {
        if self.count >= 4 * CHUNK_POINTS_MAX {
            // Nobody takes chunks away: the disk gets a gap, memory stays bounded.
            return;
        }
        let points = self.points.entry((subject.clone(), measure)).or_default();
        let before = points.len();
        points.entry(number).and_modify(|known| known.merge(point)).or_insert(*point);
        self.count += points.len() - before;
    }

    /// Notes that all points up to this evidence are here or in chunks.
    pub(super) fn reach(&mut self, watermark: Watermark, now_ms: u64) {
        self.watermark = self.watermark.max(watermark);
        self.evidence += 1;
        self.since_ms.get_or_insert(now_ms);
    }

    /// Whether it is time: an hour, much evidence, or many points. `phase_ms` spreads hosts over the hour.
    fn is_due(&self, now_ms: u64, phase_ms: u64) -> bool {
        let hour = |at_ms: u64| at_ms.saturating_add(phase_ms) / HOUR_MS;
        self.evidence >= CHUNK_EVIDENCE_MAX
            || self.count >= CHUNK_POINTS_MAX
            || self.since_ms.is_some_and(|since_ms| hour(since_ms) < hour(now_ms))
    }
}

impl History {
    /// Chunks that are due at `now_ms`, at most `max`, each with its host (none for sums). They are handed out once: who
    /// takes them must have them committed, or end.
    pub fn take_due(&mut self, now_ms: u64, max: usize) -> Vec<(Option<HostId>, Chunk)> {
        let phase = |host: &Option<HostId>| {
            let [a, b, ..] = host.map_or([0; 32], |host| *host.as_bytes());
            u64::from(u16::from_be_bytes([a, b])) * HOUR_MS / (1 << 16)
        };
        let due = self.unkept.iter().filter(|(host, unkept)| unkept.is_due(now_ms, phase(host)));
        let due: Vec<Option<HostId>> = due.map(|(host, _)| *host).take(max).collect();
        due.into_iter().filter_map(|host| Some((host, self.chunk_of(host)?))).collect()
    }

    fn chunk_of(&mut self, host: Option<HostId>) -> Option<Chunk> {
        let unkept = self.unkept.get_mut(&host)?;
        let taken = std::mem::replace(
            unkept,
            Unkept { watermark: unkept.watermark, begins: unkept.watermark, ..Unkept::default() },
        );
        let series = taken.points.into_iter().map(|((subject, measure), points)| {
            let key = SeriesKey { host, subject: subject.clone(), measure };
            let pressure = self.series.get(&key).map_or_else(Pressure::default, Series::pressure_kept);
            ChunkSeries { subject, measure, pressure, points: points.into_iter().collect() }
        });
        Some(Chunk { watermark: taken.watermark, grain_ms: self.grain_ms(), series: series.collect() })
    }

    /// Takes back a chunk of a host (none: of sums) that was committed before a restart. What ends after `now_ms`, when
    /// the clock must have been ahead, is left out.
    pub fn restore(&mut self, host: Option<HostId>, chunk: &Chunk, now_ms: u64) {
        let step_ms = self.step_ms();
        for kept in &chunk.series {
            let is_sum = matches!(kept.subject, Subject::Tenant(_) | Subject::Pool(_));
            if is_sum != host.is_none() {
                continue;
            }
            let ended = |(number, point): &(u64, Point)| {
                let end_ms = number.checked_add(1)?.checked_mul(chunk.grain_ms)?;
                (end_ms <= now_ms.saturating_add(chunk.grain_ms)).then_some((end_ms, *point))
            };
            let points: Vec<(u64, Point)> = kept.points.iter().filter_map(ended).collect();
            if points.is_empty() {
                continue;
            }
            let key = SeriesKey { host, subject: kept.subject.clone(), measure: kept.measure };
            let series = match host {
                Some(host) => {
                    let of_host = &mut self.hosts.entry(host).or_default().series;
                    series_at(&mut self.series, of_host, key, step_ms)
                }
                // Their number is that of tenants and pools.
                None => Some(self.series.entry(key).or_insert_with(|| Series::new(step_ms))),
            };
            let Some(series) = series else { continue };
            for (end_ms, point) in &points {
                series.fold(*end_ms, chunk.grain_ms, point);
            }
            series.pressure_mut().raise_to(kept.pressure);
        }
        match host {
            Some(_) => {
                let unkept = self.unkept.entry(host).or_default();
                unkept.watermark = unkept.watermark.max(chunk.watermark);
                unkept.begins = unkept.begins.max(chunk.watermark);
            }
            None if chunk.grain_ms == self.grain_ms() => {
                self.summed = self.summed.max(chunk.watermark.sequence.min(now_ms / chunk.grain_ms));
                let unkept = self.unkept.entry(None).or_default();
                unkept.begins = unkept.begins.max(chunk.watermark);
            }
            None => {}
        }
    }

    /// Lets go of every series that is silent for too long, and of hosts of which nothing is left.
    pub fn forget_silent(&mut self, now_ms: u64) {
        let hosts: Vec<HostId> = self.hosts.keys().copied().collect();
        for host in hosts {
            self.forget_stale(host, now_ms);
        }
        self.hosts.retain(|_, note| note.series > 0);
        let (hosts, unkept) = (&self.hosts, &mut self.unkept);
        unkept.retain(|host, unkept| {
            unkept.evidence > 0 || unkept.count > 0 || host.as_ref().is_none_or(|host| hosts.contains_key(host))
        });
    }

    /// What no chunk of a host (none: of sums) holds yet, as one; and where the chunk before it reached.
    pub fn unkept(&self, host: Option<&HostId>) -> (Watermark, Chunk) {
        let empty = Unkept::default();
        let unkept = self.unkept.get(&host.copied()).unwrap_or(&empty);
        let series = unkept.points.iter().map(|((subject, measure), points)| ChunkSeries {
            subject: subject.clone(),
            measure: *measure,
            pressure: Pressure::default(),
            points: points.iter().map(|(number, point)| (*number, *point)).collect(),
        });
        let chunk = Chunk { watermark: unkept.watermark, grain_ms: self.grain_ms(), series: series.collect() };
        (unkept.begins, chunk)
    }
}
