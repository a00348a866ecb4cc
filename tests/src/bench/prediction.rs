//! One forecast by itself and many at once, onnxruntime beside them in the same run.
//!
//! Measured is what the service does for a series: its past is normalised, the network runs, the answer is put back into the series' unit. onnxruntime
//! is measured on the network alone, with what the normaliser made before.

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use quotary_common::units::ResourceKind;
use quotary_decide::forecast::{Calibration, Past};
use quotary_models::Model;
use serde::{Deserialize, Serialize};

use super::ROUNDS;
use super::report::{Gate, Good, Line, median, progress, short};

/// Series that are forecast at once.
const SERIES: usize = 256;
/// Points of each: what the model sees, and an hour.
const POINTS: usize = 324;

/// Forecasts by the shipped model.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// Each round.
    pub rounds: Vec<Round>,
    /// Median over the rounds: one series alone, µs.
    pub single_us: f64,
    /// Median over the rounds: a series among 256, on one core, µs.
    pub batched_us: f64,
    /// onnxruntime's network alone, one series, µs.
    pub onnxruntime_single_us: f64,
    /// The same among 32, µs.
    pub onnxruntime_batched_us: f64,
    /// Which onnxruntime.
    pub onnxruntime: String,
    /// What the service keeps of a series' calibration, bytes.
    pub calibration_bytes: usize,
}

/// One round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// One series alone, µs.
    pub single_us: f64,
    /// A series among many, µs.
    pub batched_us: f64,
    /// onnxruntime, one series, µs.
    pub onnxruntime_single_us: f64,
    /// onnxruntime, among 32, µs.
    pub onnxruntime_batched_us: f64,
}

#[derive(Deserialize)]
struct Yardstick {
    batch_1_us: f64,
    batch_32_us: f64,
    version: String,
}

/// Measures [`ROUNDS`] rounds of `round` each.
///
/// # Errors
/// The model does not load, or onnxruntime cannot be measured: `make bench` installs it.
pub(super) fn measure(round: Duration) -> anyhow::Result<Prediction> {
    let model = quotary_models::shipped().context("the model does not load")?;
    let series: Vec<Vec<Option<f64>>> = (0..SERIES).map(course).collect();
    let pasts: Vec<Past<'_>> = series
        .iter()
        .zip(RESOURCES.into_iter().cycle())
        .map(|(values, resource)| Past { measure: resource.into(), interval_s: 300, values })
        .collect();
    progress("prediction, one forecast and many at once, onnxruntime beside them");
    let (mut rounds, mut version) = (Vec::new(), String::new());
    for _ in 0..ROUNDS {
        let single_us = repeated(round / 4, || {
            for past in pasts.iter().take(32) {
                let _ = black_box(model.forecast(black_box(past)));
            }
            32
        });
        let batched_us = repeated(round / 4, || {
            let answers = black_box(model.forecast_all(black_box(&pasts)));
            answers.iter().filter(|answer| answer.is_ok()).count()
        });
        let beside = onnxruntime(round / 4)?;
        rounds.push(Round {
            single_us,
            batched_us,
            onnxruntime_single_us: beside.batch_1_us,
            onnxruntime_batched_us: beside.batch_32_us,
        });
        version = beside.version;
    }
    check(&model, &pasts)?;
    Ok(Prediction {
        single_us: median(rounds.iter().map(|round| round.single_us)),
        batched_us: median(rounds.iter().map(|round| round.batched_us)),
        onnxruntime_single_us: median(rounds.iter().map(|round| round.onnxruntime_single_us)),
        onnxruntime_batched_us: median(rounds.iter().map(|round| round.onnxruntime_batched_us)),
        onnxruntime: version,
        calibration_bytes: size_of::<Calibration>(),
        rounds,
    })
}

const RESOURCES: [ResourceKind; 4] =
    [ResourceKind::Cpu, ResourceKind::Memory, ResourceKind::Disk, ResourceKind::Network];

/// A wave with noise, gaps and a burst now and then; each series another.
fn course(index: usize) -> Vec<Option<f64>> {
    let point = |row: usize| {
        let seed = (row * 7919 + index * 104_729) % 1009;
        let wave = 300.0 + 200.0 * ((row + index) as f64 / 46.0).sin() + seed as f64 / 10.0;
        (seed > 5).then_some(if seed > 1000 { wave * 8.0 } else { wave })
    };
    (0..POINTS).map(point).collect()
}

/// Time of each of the things that `work` says it did, µs.
fn repeated(long: Duration, mut work: impl FnMut() -> usize) -> f64 {
    work();
    let (began, mut done) = (Instant::now(), 0);
    while began.elapsed() < long {
        done += work();
    }
    began.elapsed().as_secs_f64() * 1e6 / done.max(1) as f64
}

/// What was measured must be forecasts.
fn check(model: &Model, pasts: &[Past<'_>]) -> anyhow::Result<()> {
    let answers = model.forecast_all(pasts);
    ensure!(answers.iter().all(Result::is_ok), "a series of the bench was not forecast");
    Ok(())
}

fn onnxruntime(round: Duration) -> anyhow::Result<Yardstick> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let prepared =
        Command::new(models.join("train.sh")).arg("--prepare").output().context("models/train.sh --prepare")?;
    ensure!(prepared.status.success(), "onnxruntime is not there: {}", String::from_utf8_lossy(&prepared.stderr));
    let python = String::from_utf8(prepared.stdout)?;
    let output = Command::new(python.trim())
        .arg("-B")
        .arg(models.join("measure.py"))
        .arg((round / 2).as_secs_f64().to_string())
        .output()
        .context("models/measure.py")?;
    ensure!(output.status.success(), "models/measure.py: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

impl Prediction {
    pub(super) fn lines(&self) -> Vec<Line> {
        vec![
            Line::new("forecast, one series", format!("{} µs", short(self.single_us))),
            Line::new("forecast, a series among 256, one core", format!("{} µs", short(self.batched_us))),
            Line::new(
                format!("onnxruntime {}, network alone, one series", self.onnxruntime),
                format!("{} µs", short(self.onnxruntime_single_us)),
            ),
            Line::new(
                "onnxruntime, network alone, a series among 32",
                format!("{} µs", short(self.onnxruntime_batched_us)),
            ),
            Line::new("calibration of a series", format!("{} bytes", self.calibration_bytes)),
        ]
    }

    pub(super) fn gates(&self) -> Vec<Gate> {
        vec![
            Gate::new(("forecast, one series", "µs", self.single_us), Good::AtMost, (100.0, 50.0)),
            Gate::new(("forecast, batched", "µs per series and core", self.batched_us), Good::AtMost, (15.0, 10.0)),
        ]
    }
}
