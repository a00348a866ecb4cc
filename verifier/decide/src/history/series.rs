//! One series: a ring of points, one per forecast step, aligned to multiples of the step in Unix time.

use std::collections::VecDeque;

/// Points that a ring keeps: the model's context and as much again, with room for late ones.
pub(crate) const POINTS_MAX: usize = 256;

/// One forecast step of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    sum: u128,
    samples: u64,
    max: u64,
}

impl Point {
    /// Mean of the samples in the step.
    pub fn mean(&self) -> u64 {
        u64::try_from(self.sum / u128::from(self.samples.max(1))).unwrap_or(u64::MAX)
    }
    /// Largest sample in the step.
    pub fn max(&self) -> u64 {
        self.max
    }
}

/// A ring of points; what was not seen is absent.
#[derive(Debug, Clone)]
pub struct Series {
    step_ms: u64,
    /// The step number of the newest point.
    newest: u64,
    points: VecDeque<Option<Point>>,
}

impl Series {
    pub(super) fn new(step_ms: u64) -> Self {
        Self { step_ms, newest: 0, points: VecDeque::new() }
    }

    /// Adds a window that ended at `end_ms` (Unix time). What is older than the ring is left out.
    pub(super) fn add(&mut self, end_ms: u64, mean: u64, max: u64, samples: u32) {
        if samples == 0 {
            return;
        }
        let step = end_ms.saturating_sub(1) / self.step_ms;
        if self.points.is_empty() {
            self.newest = step;
            self.points.push_back(None);
        }
        if step > self.newest {
            let ahead = step - self.newest;
            if ahead > POINTS_MAX as u64 {
                self.points.clear();
                self.points.push_back(None);
            } else {
                for _ in 0..ahead {
                    self.points.push_back(None);
                }
                while self.points.len() > POINTS_MAX {
                    self.points.pop_front();
                }
            }
            self.newest = step;
        }
        let Some(index) =
            usize::try_from(self.newest - step).ok().and_then(|back| self.points.len().checked_sub(back + 1))
        else {
            // A little older than the first point, and the ring has room: make it the first.
            self.add_before(step, mean, max, samples);
            return;
        };
        merge(&mut self.points[index], mean, max, samples);
    }

    fn add_before(&mut self, step: u64, mean: u64, max: u64, samples: u32) {
        let Ok(back) = usize::try_from(self.newest - step) else { return };
        if back >= POINTS_MAX {
            return;
        }
        while self.points.len() <= back {
            self.points.push_front(None);
        }
        merge(&mut self.points[0], mean, max, samples);
    }

    /// The means of the steps that were over at `now_ms`, oldest first, at most `count`; gaps are `None`.
    pub fn closed(&self, now_ms: u64, count: usize) -> Vec<Option<Point>> {
        let open = now_ms / self.step_ms;
        let mut out: Vec<Option<Point>> = self.points.iter().copied().collect();
        let mut newest = self.newest;
        while newest >= open && out.pop().is_some() {
            newest = newest.saturating_sub(1);
        }
        // Steps that passed without news are gaps too.
        if !out.is_empty() {
            for _ in 0..open.saturating_sub(1).saturating_sub(newest).min(POINTS_MAX as u64) {
                out.push(None);
            }
        }
        let skip = out.len().saturating_sub(count);
        out.drain(..skip);
        while out.first().is_some_and(Option::is_none) {
            out.remove(0);
        }
        out
    }

    pub(super) fn is_stale(&self, now_ms: u64) -> bool {
        now_ms / self.step_ms > self.newest.saturating_add(POINTS_MAX as u64)
    }
}

fn merge(slot: &mut Option<Point>, mean: u64, max: u64, samples: u32) {
    let point = slot.get_or_insert_default();
    point.sum = point.sum.saturating_add(u128::from(mean) * u128::from(samples));
    point.samples = point.samples.saturating_add(u64::from(samples));
    point.max = point.max.max(max);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn means(series: &Series, now_ms: u64, count: usize) -> Vec<Option<u64>> {
        series.closed(now_ms, count).into_iter().map(|p| p.map(|p| p.mean())).collect()
    }

    #[test]
    fn windows_of_one_step_are_weighted_by_their_samples() {
        let mut series = Series::new(10);
        series.add(5, 100, 150, 1);
        series.add(10, 400, 900, 2);
        let points = series.closed(15, 8);
        assert_eq!(points.len(), 1);
        assert_eq!((points[0].unwrap().mean(), points[0].unwrap().max()), (300, 900));
    }

    #[test]
    fn what_was_not_seen_is_a_gap_and_the_open_step_is_left_out() {
        let mut series = Series::new(10);
        series.add(10, 1, 1, 1);
        series.add(40, 4, 4, 1);
        series.add(45, 9, 9, 1);
        assert_eq!(means(&series, 45, 8), [Some(1), None, None, Some(4)]);
        assert_eq!(means(&series, 71, 8), [Some(1), None, None, Some(4), Some(9), None, None]);
        assert_eq!(means(&series, 45, 2), [Some(4)]);
    }

    #[test]
    fn late_windows_find_their_step_and_a_long_silence_starts_anew() {
        let mut series = Series::new(10);
        series.add(100, 5, 5, 1);
        series.add(80, 3, 3, 1);
        assert_eq!(means(&series, 105, 8), [Some(3), None, Some(5)]);
        series.add(1_000_000, 7, 7, 1);
        assert_eq!(means(&series, 1_000_005, 8), [Some(7)]);
        assert!(series.is_stale(2_000_000) && !series.is_stale(1_000_010));
    }

    #[test]
    fn the_ring_is_bounded() {
        let mut series = Series::new(1);
        for at in 1..10_000 {
            series.add(at, at, at, 1);
        }
        assert_eq!(series.points.len(), POINTS_MAX);
        assert_eq!(means(&series, 9_999, 2), [Some(9_998), Some(9_999)]);
    }
}
