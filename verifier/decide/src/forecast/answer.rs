//! A forecast with what stands behind it.

use super::quantiles::{PEAK_STEPS, Quantiles};

/// The rung that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// The ONNX model, calibrated.
    Model,
    /// An exponentially weighted mean with empirical quantiles.
    Ewma,
    /// Quantiles of what is known, of this series or of its like.
    Climatology,
    /// The declared request, for want of history.
    Declared,
}

impl Method {
    /// As in replies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Ewma => "ewma",
            Self::Climatology => "climatology",
            Self::Declared => "declared",
        }
    }
}

/// Which model answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelRef {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
}

/// Quantiles of demand in the series' unit, how they were made, and on what they rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// How it was made.
    pub method: Method,
    /// By which model, if by one.
    pub model: Option<ModelRef>,
    /// One step, seconds.
    pub interval_s: u64,
    /// The quantiles.
    pub quantiles: Quantiles,
    /// Points of history it rests on.
    pub history_rows: u64,
    /// Age of the oldest, seconds.
    pub history_age_s: u64,
}

impl Forecast {
    /// The rows of peaks with the length of each in seconds.
    pub fn peaks(&self) -> impl Iterator<Item = (u64, &[f64])> {
        let length_s = |steps: usize| self.interval_s.saturating_mul(steps as u64);
        PEAK_STEPS.into_iter().map(length_s).zip(self.quantiles.peaks().iter().map(<[f64; 5]>::as_slice))
    }
}
