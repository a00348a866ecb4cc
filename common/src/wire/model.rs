//! Models that forecast and are tried.

use serde::{Deserialize, Serialize};

use super::route::Base64;
use crate::id::Digest;

/// A model to be tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRequest {
    /// Its manifest: JSON, at most 256 KiB.
    pub manifest: Base64,
    /// Its ONNX file, at most 5 MiB; its SHA-256 stands in the manifest.
    pub onnx: Base64,
}

/// Lets the challenger forecast.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotionRequest {
    /// SHA-256 of the challenger's ONNX file: what was looked at is what is promoted.
    pub sha256: Digest,
}

/// Lets the model before forecast again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Why, for the log; at most 256 bytes.
    pub why: String,
}

/// The models, and how they fare.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelsView {
    /// The one that forecasts; absent where none can: the rungs below answer.
    pub champion: Option<ModelView>,
    /// The one that is tried beside it.
    pub challenger: Option<ModelView>,
    /// The one to go back to.
    pub before: Option<ModelView>,
    /// What the contest comes to; absent where there is none.
    pub contest: Option<ContestView>,
    /// The share that the champion's 95 % line covered over the last day, where that is below 0.90 or above 0.99: its forecasts drift.
    pub drift: Option<f64>,
}

/// One model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelView {
    /// Its name, by its manifest.
    pub name: String,
    /// SHA-256 of its ONNX file.
    pub sha256: Digest,
    /// Since when it forecasts, or is tried, Unix ms; absent for the one that was there first, and for one to go back to.
    pub since_ms: Option<u64>,
    /// How good its forecasts were, once their time had come, by what they were of.
    pub scores: Vec<ModelScoreView>,
}

/// How good forecasts of one measure were.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelScoreView {
    /// Of what: `cpu_millicores`, …
    pub resource: String,
    /// Over so many hours: 24 or 168.
    pub hours: u64,
    /// Forecasts that were scored.
    pub forecasts: u64,
    /// Steps that came.
    pub steps: u64,
    /// The share of them at or below the .90, .95 and .99 lines; absent before any came.
    pub coverage: Option<[f64; 3]>,
    /// The pinball loss over the levels .1 to .9, over that of the EWMA rung on the same steps: below 1 the model was worth it.
    pub loss_ratio_to_ewma: Option<f64>,
}

/// What a contest comes to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContestView {
    /// Whether the challenger may take over now.
    pub may_promote: bool,
    /// What it rests on, what is missing, or why not: a sentence each.
    pub why: Vec<String>,
    /// SHA-256 of the record that this rests on.
    pub record: Option<Digest>,
}
