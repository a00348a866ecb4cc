//! Hours and steps that history keeps of some series, for whoever plans by them.

use std::collections::BTreeMap;

use quotary_decide::history::{History, Resolution, SeriesKey};
use tokio::sync::oneshot;

/// Series that are handed over at once at most: what the forecaster does between two pieces of evidence stays short.
pub(super) const SERIES_MAX: usize = 32;

/// What was over of one series, oldest first, the newest last; gaps are `None`.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Hours.
    pub(super) hours: Vec<Option<f64>>,
    /// Forecast steps.
    pub(super) steps: Vec<Option<f64>>,
}

/// What is known of series; those of which nothing is are left out.
#[derive(Debug, Default)]
pub(super) struct AllKnown {
    /// By series.
    pub(super) series: BTreeMap<SeriesKey, Known>,
    /// When, Unix ms.
    pub(super) now_ms: u64,
    /// How long a step is, ms.
    pub(super) step_ms: u64,
}

pub(super) fn of(history: &History, keys: Vec<SeriesKey>, now_ms: u64) -> AllKnown {
    let known = |key: SeriesKey| {
        let series = history.get(&key)?;
        let points = |resolution: Resolution| {
            let points = series.closed_at(resolution, now_ms, resolution.points_max());
            points.iter().map(|point| point.as_ref().map(super::forecaster::demand)).collect()
        };
        Some((key, Known { hours: points(Resolution::Hour), steps: points(Resolution::Step) }))
    };
    let series = keys.into_iter().take(SERIES_MAX).filter_map(known).collect();
    AllKnown { series, now_ms, step_ms: history.step_ms() }
}

/// Answers a question; who asked may be gone.
pub(super) fn answer(history: &History, keys: Vec<SeriesKey>, now_ms: u64, to: oneshot::Sender<AllKnown>) {
    if !to.is_closed() {
        let _gone = to.send(of(history, keys, now_ms)).is_err();
    }
}
