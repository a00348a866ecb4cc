//! The forecast model: loads it, runs it, answers in the caller's unit.
//!
//! A model is two files: ONNX bytes and a manifest that pins them (digest, opset, shapes, quantile levels, normaliser).
//! [`Model::load`] enforces the manifest; [`Model::forecast_all`] takes the past of series and gives quantiles of demand
//! per step and of the peak (design §6): it is a [`quotary_decide::forecast::QuantileModel`], the ladder's first rung. [`shipped`] is the model that this repository trains (`train.sh`) and builds in.
//!
//! Assumes: the caller has decided to trust the manifest. The manifest then decides about the ONNX file.
//! Promises: no forecast holds NaN, an infinity or a negative number; quantiles never cross, and a longer peak is never below a
//! shorter one; multiplying a series by a constant multiplies its forecast; the same input gives the same forecast. A fault is an
//! error that names what is wrong, so that the caller can fall back to its statistical rung.
//! Must never: read files, clock, network or randomness; show a type of the inference engine (tract) to its users.

mod error;
mod graph;
mod manifest;
mod model;
mod network;
mod normaliser;

pub use error::{ContextFault, ModelError};
pub use manifest::{HeldOut, MAX_MANIFEST_BYTES, MAX_MODEL_BYTES};
pub use model::{Model, shipped, shipped_files};
