//! A forecast with what stands behind it.

use super::quantiles::{PEAK_STEPS, Quantiles};

/// The rung that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// The ONNX model, calibrated; the EWMA rung may have the lesser share.
    Model,
    /// An exponentially weighted mean with empirical quantiles; the model, if one is named, has the lesser share.
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
    /// How it was made: the rung with the greater share.
    pub method: Method,
    /// The model that has a share in it, be it the lesser.
    pub model: Option<ModelRef>,
    /// One step, seconds.
    pub interval_s: u64,
    /// The quantiles.
    pub quantiles: Quantiles,
    /// Points of the series' own history it rests on.
    pub history_rows: u64,
    /// Age of the oldest, seconds.
    pub history_age_s: u64,
}

impl Forecast {
    /// What is said of a series of which nothing is known but the declared request; `interval_s` is one step.
    pub fn declared(amount: u64, interval_s: u64) -> Option<Self> {
        #[expect(clippy::cast_precision_loss, reason = "demand is below 2^53 or its last digits do not matter")]
        let quantiles = Quantiles::point(amount as f64)?;
        Some(Self { method: Method::Declared, model: None, interval_s, quantiles, history_rows: 0, history_age_s: 0 })
    }

    /// Whether the series has too little history of its own: what is told of it are others of its like, or the declared request.
    pub fn is_insufficient(&self) -> bool {
        matches!(self.method, Method::Climatology | Method::Declared)
    }

    /// The rows of peaks with the length of each in seconds.
    pub fn peaks(&self) -> impl Iterator<Item = (u64, &[f64])> {
        let length_s = |steps: usize| self.interval_s.saturating_mul(steps as u64);
        PEAK_STEPS.into_iter().map(length_s).zip(self.quantiles.peaks().iter().map(<[f64; 5]>::as_slice))
    }
}
