//! One series: the values of the open window, and the windows closed but not yet taken. Pure.

use std::collections::VecDeque;

use quotary_common::envelope::Name;
use quotary_common::limits::WINDOWS_MAX;
use quotary_common::metric::{Metric, MetricWindow};

/// Most values that one window keeps; the percentile is exact, so each must be kept until the window closes.
pub(super) const SAMPLES_PER_WINDOW_MAX: usize = 512;
/// Closed windows kept per series while nobody takes them (the verifier is away): later the oldest go.
pub(super) const CLOSED_WINDOWS_MAX: usize = 8;
/// Most series of one subject: all their closed windows together fit into an envelope.
pub(super) const SERIES_PER_SUBJECT_MAX: usize = WINDOWS_MAX / CLOSED_WINDOWS_MAX;

/// One metric of one subject, of one device or of the whole.
#[derive(Debug)]
struct Series {
    metric: Metric,
    label: Option<Name>,
    values: Vec<u64>,
    closed: VecDeque<MetricWindow>,
}

impl Series {
    /// Closes the window that starts at `start_ms`: a window without values is none.
    fn close(&mut self, start_ms: u64, duration_ms: u64) {
        self.values.sort_unstable();
        let count = self.values.len() as u64;
        let (Some(max), Some(p95)) = (self.values.last(), self.values.get(nearest_rank_95(self.values.len()))) else {
            return;
        };
        let sum: u128 = self.values.iter().copied().map(u128::from).sum();
        let window = MetricWindow {
            metric: self.metric,
            start_ms,
            duration_ms,
            samples: u32::try_from(count).unwrap_or(u32::MAX),
            mean: u64::try_from(sum / u128::from(count)).unwrap_or(u64::MAX),
            max: *max,
            p95: *p95,
            label: self.label.clone(),
        };
        self.values.clear();
        if self.closed.len() == CLOSED_WINDOWS_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back(window);
    }
}

/// Index of the 95th percentile among `count` sorted values: the nearest rank, ⌈0.95 · count⌉, counted from one.
fn nearest_rank_95(count: usize) -> usize {
    (count * 95).div_ceil(100).saturating_sub(1)
}

/// All series of one subject.
#[derive(Debug, Default)]
pub(super) struct SeriesSet(Vec<Series>);

impl SeriesSet {
    /// Adds a value to the open window; `false` if it was left out since a bound is reached.
    pub(super) fn add(&mut self, metric: Metric, label: Option<&Name>, value: u64) -> bool {
        let count = self.0.len();
        let known = self.0.iter_mut().find(|series| series.metric == metric && series.label.as_ref() == label);
        match known {
            Some(series) if series.values.len() < SAMPLES_PER_WINDOW_MAX => series.values.push(value),
            None if count < SERIES_PER_SUBJECT_MAX => {
                let series = Series { metric, label: label.cloned(), values: vec![value], closed: VecDeque::new() };
                self.0.push(series);
            }
            _ => return false,
        }
        true
    }

    /// Closes the open window, drops closed ones that start before `oldest_ms`, forgets series without any.
    pub(super) fn close(&mut self, start_ms: u64, duration_ms: u64, oldest_ms: u64) {
        self.0.retain_mut(|series| {
            series.close(start_ms, duration_ms);
            while series.closed.front().is_some_and(|window| window.start_ms < oldest_ms) {
                series.closed.pop_front();
            }
            !series.closed.is_empty()
        });
    }

    /// Takes the closed windows, by interval, oldest first: an envelope states an interval once for all of its windows.
    /// The series stay.
    pub(super) fn take_closed(&mut self) -> Vec<MetricWindow> {
        let mut windows: Vec<_> = self.0.iter_mut().flat_map(|series| series.closed.drain(..)).collect();
        windows.sort_by_key(|window| (window.start_ms, window.duration_ms));
        windows
    }

    /// Whether no series is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one_window(values: &[u64]) -> MetricWindow {
        let mut set = SeriesSet::default();
        for value in values {
            assert!(set.add(Metric::MemoryBytes, None, *value));
        }
        set.close(0, 1000, 0);
        set.take_closed().pop().unwrap()
    }

    #[test]
    fn p95_is_the_nearest_rank() {
        assert_eq!(one_window(&[7]).p95, 7);
        let upward: Vec<u64> = (1..=100).collect();
        assert_eq!(one_window(&upward).p95, 95);
        assert_eq!(one_window(&upward[..20]).p95, 19);
        assert_eq!(one_window(&upward[..15]).p95, 15);
        assert_eq!(one_window(&[5, 1, 9, 3]).p95, 9);
    }

    #[test]
    fn a_series_keeps_the_newest_eight_windows() {
        let mut set = SeriesSet::default();
        for window in 0..12 {
            set.add(Metric::MemoryBytes, None, window);
            set.close(window * 10, 10, 0);
        }
        let starts: Vec<u64> = set.take_closed().iter().map(|window| window.start_ms).collect();
        assert_eq!(starts, [40, 50, 60, 70, 80, 90, 100, 110]);
    }

    #[test]
    fn windows_are_taken_by_interval() {
        let mut set = SeriesSet::default();
        for window in 0..3 {
            set.add(Metric::MemoryBytes, None, window);
            set.add(Metric::CpuMillicores, None, window);
            set.close(window * 10, 10, 0);
        }
        let taken: Vec<_> = set.take_closed().iter().map(|window| (window.start_ms, window.metric)).collect();
        let of = |start_ms| [(start_ms, Metric::MemoryBytes), (start_ms, Metric::CpuMillicores)];
        assert_eq!(taken, [of(0), of(10), of(20)].concat());
    }

    #[test]
    fn values_and_series_beyond_the_bounds_are_left_out() {
        let mut set = SeriesSet::default();
        let taken = (0..1000).filter(|value| set.add(Metric::MemoryBytes, None, *value)).count();
        assert_eq!(taken, SAMPLES_PER_WINDOW_MAX);
        let labelled =
            (0..100).filter(|n| set.add(Metric::StorageBytes, Name::new(&format!("/{n}")).as_ref(), 1)).count();
        assert_eq!(labelled, SERIES_PER_SUBJECT_MAX - 1);
    }

    proptest! {
        #[test]
        fn mean_and_p95_never_exceed_max_and_the_sum_is_kept(values in prop::collection::vec(any::<u64>(), 1..=SAMPLES_PER_WINDOW_MAX)) {
            let window = one_window(&values);
            prop_assert!(window.mean <= window.max);
            prop_assert!(window.p95 <= window.max);
            prop_assert_eq!(window.samples as usize, values.len());
            prop_assert_eq!(window.max, values.iter().copied().max().unwrap());
            let sum: u128 = values.iter().copied().map(u128::from).sum();
            let (mean, count) = (u128::from(window.mean), values.len() as u128);
            prop_assert!(mean * count <= sum && sum < (mean + 1) * count);
            // Nearest rank: at least 95 % of the values are not above it, and fewer than 95 % are below it.
            let not_above = values.iter().filter(|value| **value <= window.p95).count();
            let below = values.iter().filter(|value| **value < window.p95).count();
            prop_assert!(not_above * 100 >= values.len() * 95 && below * 100 < values.len() * 95);
        }
    }
}
