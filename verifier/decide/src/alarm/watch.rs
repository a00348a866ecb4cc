//! A detector per series, each closed step judged once.

use std::collections::BTreeMap;

use quotary_common::anomaly::ANOMALY_SUBJECT_BYTES_MAX;
use quotary_common::cbor::Text;
use quotary_common::id::{Digest, HostId};

use super::{AlarmRecord, Finding, Place, REFRACTORY_STEPS, RELIVED_STEPS, subject_name, tail_of};
use crate::anomaly::{Detector, Judgement};
use crate::forecast::{Forecast, Method, StepRow};
use crate::history::{Chunk, History, Point, Resolution, Series, SeriesKey};

/// How many series are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All.
    pub series: u64,
    /// Of them, those too young to alarm.
    pub warming_up: u64,
}

/// The detectors of all series.
#[derive(Debug)]
pub struct Watch {
    step_ms: u64,
    line: f64,
    series: BTreeMap<SeriesKey, Watched>,
    /// While chunks are read back: the newest step of each series, which the next chunk may add to.
    partial: BTreeMap<SeriesKey, (u64, Point)>,
}

/// One series.
#[derive(Debug, Default)]
struct Watched {
    detector: Detector,
    /// The first step that is not judged yet; none before the first.
    next: Option<u64>,
    /// No alarm before this step.
    quiet_until: u64,
    is_warming_up: bool,
    /// What the newest forecast expects of a step.
    expected: Option<(u64, StepRow)>,
}

impl Watched {
    /// Judges a step. What is over the line is told unless the series is quiet.
    fn judge(&mut self, line: f64, (step, at_ms): (u64, u64), value: Option<f64>) -> Option<Judgement> {
        self.next = Some(step.saturating_add(1));
        let row = self.expected.filter(|(expected, _)| *expected == step);
        let tail = row.zip(value).and_then(|((_, row), value)| tail_of(&row, value));
        let at_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
        let judged = self.detector.judge_over(line, at_ms, value, tail);
        self.is_warming_up = judged.is_warming_up;
        judged.kind?;
        let is_told = step >= self.quiet_until;
        if is_told {
            self.quiet_until = step.saturating_add(REFRACTORY_STEPS);
        }
        is_told.then_some(judged)
    }
}

impl Watch {
    /// Nothing is known yet; `line` is the score from which on something is told.
    pub fn new(step_ms: u64, line: f64) -> Self {
        Self { step_ms: step_ms.max(1), line, series: BTreeMap::new(), partial: BTreeMap::new() }
    }

    /// How many series are judged.
    pub fn counts(&self) -> Counts {
        let warming_up = self.series.values().filter(|watched| watched.is_warming_up).count();
        Counts { series: self.series.len() as u64, warming_up: warming_up as u64 }
    }

    /// What a forecast that was made when step `step` was next expects of it.
    pub fn expect(&mut self, key: &SeriesKey, step: u64, forecast: &Forecast) {
        let Some(watched) = self.series.get_mut(key) else { return };
        let knows = forecast.method != Method::Declared;
        watched.expected = knows.then(|| forecast.quantiles.steps().first().map(|row| (step, *row))).flatten();
    }

    #[cfg(test)]
    pub(super) fn detector_of(&self, key: &SeriesKey) -> Option<&Detector> {
        self.series.get(key).map(|watched| &watched.detector)
    }

    /// Judges every step of every series that ended before step `until` and is not judged yet; what is odd, of steps from `told` on: what
    /// was before was told before.
    pub fn judge(&mut self, history: &History, until: u64, told: u64) -> Vec<Finding> {
        let mut found = Vec::new();
        self.series.retain(|key, _| history.get(key).is_some());
        for (key, series) in history.iter() {
            if !self.series.contains_key(key) {
                self.series.insert(key.clone(), Watched { is_warming_up: true, ..Watched::default() });
            }
            let Some(watched) = self.series.get_mut(key) else { continue };
            judge_series((self.line, self.step_ms), (key, series), watched, (until, told), &mut found);
        }
        found
    }

    /// Judges again, silently, what a chunk of a host (none: of sums) brings back after a restart. Chunks of a host come in their order; a
    /// step that the next may add to waits for it. Left out is what ends after `now_ms`, what is older than [`RELIVED_STEPS`], and what
    /// `history` has no series for.
    pub fn relive(&mut self, history: &History, host: Option<HostId>, chunk: &Chunk, now_ms: u64) {
        if chunk.grain_ms > self.step_ms.saturating_mul(2) {
            return;
        }
        let (line, step_ms) = (self.line, self.step_ms);
        let oldest = (now_ms / step_ms).saturating_sub(RELIVED_STEPS);
        let last_ms = now_ms.saturating_add(chunk.grain_ms);
        let mut points = chunk.points().peekable();
        while let Some((subject, measure, ..)) = points.peek().copied() {
            let key = SeriesKey { host, subject: subject.clone(), measure };
            let is_kept = history.get(&key).is_some();
            let mut held = self.partial.remove(&key);
            let watched = self.series.entry(key.clone()).or_default();
            let first = watched.next.unwrap_or(0).max(oldest);
            while let Some((.., start_ms, point)) = points.next_if(|(of, kind, ..)| *of == subject && *kind == measure)
            {
                let end_ms = start_ms.saturating_add(chunk.grain_ms);
                let step = end_ms.saturating_sub(1) / step_ms;
                if !is_kept || end_ms > last_ms || step < first {
                    continue;
                }
                match &mut held {
                    Some((before, sum)) if *before == step => sum.merge(point),
                    Some((before, sum)) if *before < step => {
                        let _told = watched.judge(line, (*before, *before * step_ms), Some(demand(sum)));
                        held = Some((step, *point));
                    }
                    Some(_) => {}
                    None => held = Some((step, *point)),
                }
            }
            match held {
                Some(held) => drop(self.partial.insert(key, held)),
                None if watched.next.is_none() => drop(self.series.remove(&key)),
                None => {}
            }
        }
    }

    /// All chunks were read back: what they held of a step that others add to is judged from the history.
    pub fn relived(&mut self) {
        self.partial.clear();
    }

    /// Series that alarmed before a restart are as quiet as they were.
    pub fn remember<'a>(&mut self, alarms: impl Iterator<Item = &'a AlarmRecord>) {
        let mut told: BTreeMap<(Place, String, String), u64> = BTreeMap::new();
        for alarm in alarms {
            for finding in alarm.findings() {
                let name = (alarm.place(), finding.subject.as_str().to_owned(), finding.resource.as_str().to_owned());
                let step = told.entry(name).or_default();
                *step = (*step).max(finding.at_ms / self.step_ms);
            }
        }
        for (key, watched) in &mut self.series {
            let subject = Text::<ANOMALY_SUBJECT_BYTES_MAX>::lossy(&subject_name(&key.subject));
            let name = (Place::of(key), subject.as_str().to_owned(), key.measure.unit_name().to_owned());
            if let Some(step) = told.get(&name) {
                watched.quiet_until = watched.quiet_until.max(step.saturating_add(REFRACTORY_STEPS));
            }
        }
    }
}

/// Judges what is closed of one series and not judged yet.
fn judge_series(
    (line, step_ms): (f64, u64),
    (key, series): (&SeriesKey, &Series),
    watched: &mut Watched,
    (until, told): (u64, u64),
    found: &mut Vec<Finding>,
) {
    let reach = Resolution::Step.points_max() as u64;
    let count = watched.next.map_or(reach, |next| until.saturating_sub(next).min(reach));
    if count == 0 {
        return;
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let closed = series.closed(until.saturating_mul(step_ms), count);
    let first = until.saturating_sub(closed.len() as u64);
    if closed.is_empty() && watched.next.is_none() {
        return;
    }
    if closed.len() < count && watched.next.is_some() {
        // Steps without a point before the first that has one: one gap says as much as many.
        let _gap = watched.judge(line, (first.saturating_sub(1), 0), None);
    }
    for (step, point) in (first..until).zip(&closed) {
        let at_ms = step.saturating_mul(step_ms);
        let judged = watched.judge(line, (step, at_ms), point.as_ref().map(demand));
        let Some(Judgement { score, kind: Some(kind), figures: Some(figures), .. }) = judged else { continue };
        if step >= told {
            let (key, input) = (key.clone(), input_of(series, at_ms));
            found.push(Finding { key, step, at_ms, kind, score, figures, input });
        }
    }
}

/// SHA-256 of the steps that the series holds up to the one that began at `at_ms`.
fn input_of(series: &Series, at_ms: u64) -> Digest {
    let held = series.points(Resolution::Step).take_while(|(start_ms, _)| *start_ms <= at_ms);
    let bytes: Vec<u8> =
        held.flat_map(|(start_ms, point)| [start_ms.to_be_bytes(), point.mean().to_be_bytes()].concat()).collect();
    Digest::of(&[&bytes])
}

#[expect(clippy::cast_precision_loss, reason = "demand is below 2^53 or its last digits do not matter")]
fn demand(point: &Point) -> f64 {
    point.mean() as f64
}
