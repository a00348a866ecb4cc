//! One series: the newest windows as they came, and rings of points at three resolutions.

use std::collections::VecDeque;

use super::pressure::Pressure;
use super::ring::{HOUR_MS, Point, Resolution, Ring};

/// Windows that are kept as they came: ten minutes of 15 s.
const WINDOWS_KEPT: usize = 40;

/// One window of a series, on the verifier's time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Its end, Unix ms.
    pub end_ms: u64,
    /// Its length, ms.
    pub duration_ms: u64,
    /// What was used in it.
    pub point: Point,
}

/// What is known of one series; what was not seen is absent.
#[derive(Debug, Clone)]
pub struct Series {
    windows: VecDeque<Window>,
    rings: [Ring; 3],
    /// Where the oldest that it ever held began, Unix ms.
    since_ms: u64,
    pressure: Pressure,
}

impl Series {
    pub(super) fn new(step_ms: u64) -> Self {
        let ring = |resolution: Resolution| Ring::new(resolution.span_ms(step_ms), resolution.points_max());
        Self {
            windows: VecDeque::new(),
            rings: Resolution::ALL.map(ring),
            since_ms: u64::MAX,
            pressure: Pressure::default(),
        }
    }

    /// Adds a window; each ring takes what it still reaches back to.
    pub(super) fn add(&mut self, window: Window) {
        let at = self.windows.partition_point(|known| known.end_ms <= window.end_ms);
        if at > 0 || self.windows.len() < WINDOWS_KEPT {
            self.windows.insert(at, window);
        }
        if self.windows.len() > WINDOWS_KEPT {
            self.windows.pop_front();
        }
        self.fold(window.end_ms, window.duration_ms, &window.point);
    }

    /// Adds a point that a chunk held: it is no window any more.
    pub(super) fn fold(&mut self, end_ms: u64, duration_ms: u64, point: &Point) {
        self.since_ms = self.since_ms.min(end_ms.saturating_sub(duration_ms));
        for ring in &mut self.rings {
            // What lasted longer says nothing of so short an interval. (A window may last a little longer than it should.)
            if duration_ms <= ring.span_ms().saturating_mul(2) {
                ring.add(end_ms, point);
            }
        }
    }

    fn ring(&self, resolution: Resolution) -> &Ring {
        &self.rings[resolution as usize]
    }

    /// The forecast steps that were over at `now_ms`, oldest first, at most `count`; gaps are `None`.
    pub fn closed(&self, now_ms: u64, count: usize) -> Vec<Option<Point>> {
        self.closed_at(Resolution::Step, now_ms, count)
    }

    /// The points of a resolution that were over at `now_ms`, oldest first, at most `count`; gaps are `None`.
    pub fn closed_at(&self, resolution: Resolution, now_ms: u64, count: usize) -> Vec<Option<Point>> {
        self.ring(resolution).closed(now_ms, count)
    }

    /// Every known point of a resolution with its start (Unix ms), oldest first; the newest may still grow.
    pub fn points(&self, resolution: Resolution) -> impl Iterator<Item = (u64, Point)> {
        let ring = self.ring(resolution);
        ring.iter().map(|(number, point)| (number.saturating_mul(ring.span_ms()), point))
    }

    /// One point by its number (start over length).
    pub(super) fn point(&self, resolution: Resolution, number: u64) -> Option<Point> {
        self.ring(resolution).get(number)
    }

    /// The number of the newest point of a resolution.
    pub(super) fn newest(&self, resolution: Resolution) -> Option<u64> {
        self.ring(resolution).newest()
    }

    /// The newest windows as they came, oldest first.
    pub fn windows(&self) -> impl Iterator<Item = &Window> {
        self.windows.iter()
    }

    /// How short the series was of late, 0 to 1000: OOM kills, throttling and reclaim, decaying by half in
    /// [`PRESSURE_HALF_LIFE_MS`](super::PRESSURE_HALF_LIFE_MS).
    pub fn pressure(&self, now_ms: u64) -> u16 {
        self.pressure.permille(now_ms)
    }

    pub(super) fn pressure_kept(&self) -> Pressure {
        self.pressure
    }
    pub(super) fn pressure_mut(&mut self) -> &mut Pressure {
        &mut self.pressure
    }

    /// The end of the newest hour that it has anything of, Unix ms.
    pub(super) fn newest_ms(&self) -> u64 {
        let newest = |ring: &Ring| ring.newest().map(|number| number.saturating_add(1).saturating_mul(ring.span_ms()));
        self.rings.iter().filter_map(newest).min().unwrap_or(0)
    }

    /// Whether it is silent for so long that it is let go: as long as it lasted, but for no less than the steps and no
    /// more than the hours that are kept.
    pub(super) fn is_stale(&self, now_ms: u64) -> bool {
        let reach_ms =
            |resolution: Resolution| self.ring(resolution).span_ms().saturating_mul(resolution.points_max() as u64);
        let longest_ms = reach_ms(Resolution::Hour).max(HOUR_MS);
        let shortest_ms = reach_ms(Resolution::Step).min(longest_ms);
        let lasted_ms = self.newest_ms().saturating_sub(self.since_ms);
        now_ms.saturating_sub(self.newest_ms()) > lasted_ms.clamp(shortest_ms, longest_ms)
    }
}
