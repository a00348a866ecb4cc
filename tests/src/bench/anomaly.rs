//! The anomaly detector by itself: how long it takes to judge a point, and how much memory a series has.
//!
//! A thousand series of noise with a daily course, one point of each in turn, as a verifier sees them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::ensure;
use quotary_decide::anomaly::Detector;
use serde::Serialize;

use super::ROUNDS;
use super::report::{Gate, Good, Line, median, progress, short};

/// Series that are judged in turn: more than a processor's nearest cache holds.
const SERIES: usize = 1_000;
/// Points of each before anything is measured: all stages know enough.
const KNOWN: i64 = 1_000;
const STEP_MS: i64 = 300_000;

/// What judging a point costs.
#[derive(Debug, Clone, Serialize)]
pub struct Anomaly {
    /// Series, judged in turn.
    pub series: usize,
    /// Points that were judged in all rounds.
    pub points: u64,
    /// Of them, those over the line.
    pub alarms: u64,
    /// Each round, ns per point.
    pub rounds: Vec<f64>,
    /// Median over the rounds, ns.
    pub nanoseconds_per_point: f64,
    /// State of a series, bytes.
    pub state_bytes: usize,
    /// What is kept beside it: the last points, the last means, the day's means; bytes.
    pub context_bytes: usize,
}

/// Measures [`ROUNDS`] rounds of `round` each.
///
/// # Errors
/// When a round judged nothing.
pub(super) fn measure(round: Duration) -> anyhow::Result<Anomaly> {
    progress(&format!("anomaly, {SERIES} series in turn"));
    let mut detectors = vec![Detector::default(); SERIES];
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    let mut at = 0;
    while at < KNOWN {
        judge_all(&mut detectors, &mut noise, at);
        at += 1;
    }
    let (mut rounds, mut points, mut alarms) = (Vec::new(), 0, 0);
    for _ in 0..ROUNDS {
        let (mut took, mut judged) = (Duration::ZERO, 0u64);
        while took < round {
            let (once, over) = judge_all(&mut detectors, &mut noise, at);
            took += once;
            judged += SERIES as u64;
            alarms += over;
            at += 1;
        }
        ensure!(judged > 0, "nothing was judged");
        points += judged;
        rounds.push(took.as_nanos() as f64 / judged as f64);
    }
    let nanoseconds_per_point = median(rounds.iter().copied());
    let (state_bytes, context_bytes) = (Detector::STATE_BYTES, Detector::CONTEXT_BYTES);
    Ok(Anomaly { series: SERIES, points, alarms, rounds, nanoseconds_per_point, state_bytes, context_bytes })
}

/// One point of each series: how long that took, and how many were over the line.
fn judge_all(detectors: &mut [Detector], noise: &mut Noise, at: i64) -> (Duration, u64) {
    let daily = (std::f64::consts::TAU * (at % 288) as f64 / 288.0).sin();
    let values: Vec<f64> = detectors.iter().map(|_| 50.0 + 20.0 * daily + 10.0 * noise.next()).collect();
    let began = Instant::now();
    let over = detectors
        .iter_mut()
        .zip(values)
        .filter_map(|(detector, value)| black_box(detector.judge(at * STEP_MS, black_box(Some(value)))).kind);
    let over = over.count() as u64;
    (began.elapsed(), over)
}

/// Seeded noise: xorshift, as a sum of two uniform values.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let half = |bits: u64| (bits & 0xffff_ffff) as f64 / f64::from(u32::MAX);
        half(self.0) + half(self.0 >> 32) - 1.0
    }
}

impl Anomaly {
    /// The figures of the table.
    pub(super) fn lines(&self) -> Vec<Line> {
        let value = format!(
            "{} ns per point ({} series in turn, {} points, {} over the line); {} bytes of state, {} of context",
            short(self.nanoseconds_per_point),
            self.series,
            self.points,
            self.alarms,
            self.state_bytes,
            self.context_bytes
        );
        vec![Line::new("anomaly detector", value)]
    }

    /// What must hold.
    pub(super) fn gates(&self) -> Vec<Gate> {
        let microseconds = self.nanoseconds_per_point / 1_000.0;
        vec![
            Gate::new(("anomaly detector", "µs per point", microseconds), Good::AtMost, (5.0, 2.0)),
            Gate::new(("anomaly state of a series", "bytes", self.state_bytes as f64), Good::AtMost, (1_024.0, 704.0)),
        ]
    }
}
