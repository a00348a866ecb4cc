//! The anomaly detector by itself: how long it takes to judge a point, and how much memory a series has.
//!
//! A thousand series of noise with a daily course, one point of each in turn, as a verifier sees them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use quotary_common::id::HostId;
use quotary_common::units::ResourceKind;
use quotary_decide::alarm::{RELIVED_STEPS, Watch};
use quotary_decide::anomaly::{Detector, LINE_SCORE};
use quotary_decide::history::{Chunk, History, Point, Subject};
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
    /// Series that a service judges: of ten thousand hosts, four resources each.
    pub served: usize,
    /// Each step, ms for all of them: looked up in the history, judged, what is odd gathered.
    pub steps_ms: Vec<f64>,
    /// Their median.
    pub milliseconds_per_step: f64,
    /// What one step of one series costs when a restart judges it again, ns.
    pub relived_nanoseconds: f64,
    /// All of them over all steps that a restart judges again, s.
    pub relived_seconds: f64,
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
    let service = Service::measure()?;
    let (state_bytes, context_bytes) = (Detector::STATE_BYTES, Detector::CONTEXT_BYTES);
    Ok(Anomaly {
        series: SERIES,
        points,
        alarms,
        rounds,
        nanoseconds_per_point,
        served: HOSTS * RESOURCES.len(),
        milliseconds_per_step: median(service.steps_ms.iter().copied()),
        steps_ms: service.steps_ms,
        relived_nanoseconds: service.relived_nanoseconds,
        relived_seconds: service.relived_nanoseconds * (HOSTS * RESOURCES.len()) as f64 * RELIVED_STEPS as f64 / 1e9,
        state_bytes,
        context_bytes,
    })
}

/// Hosts of a large service, and what each has.
const HOSTS: usize = 10_000;
const RESOURCES: [ResourceKind; 4] =
    [ResourceKind::Cpu, ResourceKind::Memory, ResourceKind::Disk, ResourceKind::Network];
/// Steps that are read back, so that all stages know enough, and steps that are judged one by one.
const HELD: u64 = 240;
const STEPS: u64 = 6;
/// The first step's number, far from the beginning of time.
const FIRST: u64 = 5_000_000;

/// What a whole service costs.
struct Service {
    steps_ms: Vec<f64>,
    relived_nanoseconds: f64,
}

impl Service {
    /// The past of every series is read back, then a few steps go by.
    fn measure() -> anyhow::Result<Self> {
        let step_ms = STEP_MS.unsigned_abs();
        progress(&format!("anomaly, {HOSTS} hosts with {} series each", RESOURCES.len()));
        let (mut history, mut watch) = (History::new(step_ms), Watch::new(step_ms, LINE_SCORE));
        let mut noise = Noise(0x2545_F491_4F6C_DD1D);
        let mut relived = Duration::ZERO;
        for host in 0..HOSTS {
            let (host, chunk) = (HostId::of(&[&host.to_be_bytes()]), chunk(FIRST, HELD, &mut noise)?);
            let now_ms = (FIRST + HELD) * step_ms;
            history.restore(Some(host), &chunk, now_ms);
            let began = Instant::now();
            watch.relive(&history, Some(host), black_box(&chunk), now_ms);
            relived += began.elapsed();
        }
        watch.relived();
        let mut steps_ms = Vec::new();
        for step in FIRST + HELD..FIRST + HELD + STEPS {
            for host in 0..HOSTS {
                let (host, chunk) = (HostId::of(&[&host.to_be_bytes()]), chunk(step, 1, &mut noise)?);
                history.restore(Some(host), &chunk, (step + 1) * step_ms);
            }
            let began = Instant::now();
            black_box(watch.judge(&history, step + 1, FIRST));
            steps_ms.push(began.elapsed().as_secs_f64() * 1e3);
        }
        ensure!(watch.counts().series == (HOSTS * RESOURCES.len()) as u64, "not all series are judged");
        // The first has the newest step that was read back to judge too.
        steps_ms.remove(0);
        let points = (HOSTS * RESOURCES.len()) as f64 * (HELD - 1) as f64;
        Ok(Self { steps_ms, relived_nanoseconds: relived.as_nanos() as f64 / points })
    }
}

/// A host's chunk of so many steps.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "values from 800 to 1,200")]
fn chunk(first: u64, steps: u64, noise: &mut Noise) -> anyhow::Result<Chunk> {
    let mut series = Vec::new();
    for resource in RESOURCES {
        let mut points = Vec::new();
        for step in first..first + steps {
            let value = (1_000.0 + 200.0 * noise.next()) as u64;
            points.push((step, Point::new((value, value), 1, false).context("a point without samples")?));
        }
        series.push((Subject::Host, resource.into(), points));
    }
    Ok(Chunk::of_series(STEP_MS.unsigned_abs(), series))
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
        let served = format!(
            "{} ms per step for {} series; a restart judges {RELIVED_STEPS} steps of each again at {} ns, {} s in all",
            short(self.milliseconds_per_step),
            self.served,
            short(self.relived_nanoseconds),
            short(self.relived_seconds)
        );
        vec![Line::new("anomaly detector", value), Line::new("anomalies in the service", served)]
    }

    /// What must hold.
    pub(super) fn gates(&self) -> Vec<Gate> {
        let microseconds = self.nanoseconds_per_point / 1_000.0;
        vec![
            Gate::new(("anomaly detector", "µs per point", microseconds), Good::AtMost, (5.0, 2.0)),
            Gate::new(
                ("anomalies of 40,000 series", "ms per step", self.milliseconds_per_step),
                Good::AtMost,
                (1_000.0, 200.0),
            ),
            Gate::new(
                ("anomalies after a restart", "s for 40,000 series", self.relived_seconds),
                Good::AtMost,
                (120.0, 60.0),
            ),
            Gate::new(("anomaly state of a series", "bytes", self.state_bytes as f64), Good::AtMost, (1_024.0, 704.0)),
        ]
    }
}
