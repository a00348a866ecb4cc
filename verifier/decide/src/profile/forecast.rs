//! A forecast: quantiles of demand per step, and of the peak over the next steps.

use std::collections::BTreeMap;

/// Steps ahead.
pub const STEPS: usize = 12;
/// Quantile levels of each step.
pub const QUANTILE_LEVELS: [f64; 11] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];
/// Quantile levels of the peaks.
pub const PEAK_LEVELS: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.995];
/// The peaks are over so many steps.
pub const PEAK_STEPS: [usize; 3] = [3, 6, 12];

/// How a forecast was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By the ONNX model.
    Model,
    /// By an exponentially weighted mean with empirical quantiles.
    Ewma,
}

impl Method {
    /// As in replies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Ewma => "ewma",
        }
    }
}

/// Which model answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
}

/// Quantiles of demand; values in the resource's unit, ascending with their level.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// How it was made.
    pub method: Method,
    /// By which model.
    pub model: Option<ModelRef>,
    /// One step, seconds.
    pub interval_s: u64,
    /// Per step, one value for each of [`QUANTILE_LEVELS`].
    pub steps: Vec<Vec<f64>>,
    /// Per peak length in seconds, one value for each of [`PEAK_LEVELS`].
    pub peaks: BTreeMap<u64, Vec<f64>>,
    /// Points of history it rests on.
    pub history_rows: u64,
    /// Age of the oldest, seconds.
    pub history_age_s: u64,
}

impl Forecast {
    /// The 95 % quantile of the longest peak: what sizing rests on. `None` for a forecast without peaks.
    pub fn peak_p95(&self) -> Option<f64> {
        self.peaks.values().next_back().and_then(|values| values.get(2)).copied()
    }
}
