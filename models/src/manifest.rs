//! The manifest: what a model file must be. Raw JSON in, a checked value out.

use std::collections::BTreeMap;

use quotary_common::limits;
use quotary_common::units::ResourceKind;
use quotary_decide::forecast::{PEAK_LEVELS, PEAK_STEPS, QUANTILE_LEVELS, STEPS};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::ModelError;
use crate::normaliser;

/// Largest manifest read.
pub const MAX_MANIFEST_BYTES: usize = limits::MANIFEST_BYTES_MAX;
/// Largest ONNX file read: design §6 wants small models.
pub const MAX_MODEL_BYTES: usize = limits::MODEL_BYTES_MAX;

const FORM: u32 = 2;
const MAX_NAME_BYTES: usize = 64;
const BATCH: &str = "batch";
/// Levels closer than this are one level: they come from decimal text.
const SAME_LEVEL: f64 = 1e-9;

/// The JSON as written by `train.py`. Fields that only tell of the training are accepted whatever they hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    form: u32,
    name: String,
    #[serde(rename = "file")]
    _file: IgnoredAny,
    sha256: String,
    opset: i64,
    inputs: Vec<RawTensor>,
    outputs: Vec<RawTensor>,
    sections: Vec<(String, usize)>,
    resources: Vec<RawResource>,
    statistics: Vec<String>,
    history_steps: usize,
    horizon_steps: usize,
    quantile_levels: Vec<f64>,
    peak_steps: Vec<usize>,
    peak_levels: Vec<f64>,
    normaliser: u32,
    #[serde(rename = "seed")]
    _seed: IgnoredAny,
    #[serde(rename = "training")]
    _training: IgnoredAny,
    training_data: BTreeMap<String, String>,
    #[serde(rename = "libraries")]
    _libraries: IgnoredAny,
    metrics: RawMetrics,
    #[serde(rename = "licences")]
    _licences: IgnoredAny,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    name: String,
    #[serde(rename = "type")]
    element: String,
    shape: Vec<RawDimension>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum RawDimension {
    Named(String),
    Fixed(usize),
}

/// The kinds that models tell apart; storage is forecast by the simple rungs.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawResource {
    Cpu,
    Memory,
    Disk,
    Network,
}

#[derive(Debug, Deserialize)]
struct RawMetrics {
    all: RawPart,
}

#[derive(Debug, Deserialize)]
struct RawPart {
    methods: RawMethods,
}

#[derive(Debug, Deserialize)]
struct RawMethods {
    model: HeldOut,
}

/// What the manifest says of the model's forecasts on data that it was not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct HeldOut {
    /// Geometric mean over series of its weighted quantile loss over that of the EWMA rule.
    pub wql_ratio_to_ewma: f64,
    /// Share of what came at or below the 90 % line, before calibration.
    #[serde(rename = "coverage_0.9")]
    pub coverage_p90: f64,
    /// The same of the 95 % line.
    #[serde(rename = "coverage_0.95")]
    pub coverage_p95: f64,
    /// The same of the 99 % line.
    #[serde(rename = "coverage_0.99")]
    pub coverage_p99: f64,
}

/// A manifest that this program can honour. Only [`Manifest::check`] makes one.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) sha256: [u8; 32],
    pub(crate) opset: i64,
    pub(crate) resources: Vec<ResourceKind>,
    /// Values of the one input per row.
    pub(crate) features: usize,
    pub(crate) held_out: HeldOut,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// Too large, not of the form, or a field that this program cannot honour.
    pub(crate) fn check(bytes: &[u8]) -> Result<Self, ModelError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ModelError::ManifestTooLarge { bytes: bytes.len(), limit: MAX_MANIFEST_BYTES });
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(ModelError::ManifestForm)?;
        if raw.form != FORM {
            return refuse("form", format!("it is {}, this program knows {FORM}", raw.form));
        }
        check_name(&raw.name)?;
        let resources = checked_resources(&raw.resources)?;
        check_normaliser(&raw, resources.len())?;
        check_levels("quantile_levels", &raw.quantile_levels, &QUANTILE_LEVELS)?;
        check_levels("peak_levels", &raw.peak_levels, &PEAK_LEVELS)?;
        if raw.horizon_steps != STEPS {
            return refuse("horizon_steps", format!("it is {}, this program forecasts {STEPS}", raw.horizon_steps));
        }
        if raw.peak_steps != PEAK_STEPS {
            return refuse("peak_steps", format!("it must be {PEAK_STEPS:?}"));
        }
        let features = normaliser::FEATURES + resources.len();
        check_tensors(&raw, features)?;
        let Some(sha256) = digest_of(&raw.sha256) else {
            return refuse("sha256", "it must be 64 lower-case hexadecimal digits".to_owned());
        };
        check_training_data(&raw.training_data)?;
        let held_out = raw.metrics.all.methods.model;
        check_metrics(&held_out)?;
        Ok(Self { name: raw.name, sha256, opset: raw.opset, resources, features, held_out })
    }
}

fn refuse<T>(field: &'static str, why: String) -> Result<T, ModelError> {
    Err(ModelError::ManifestField { field, why })
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

fn check_normaliser(raw: &Raw, resources: usize) -> Result<(), ModelError> {
    if raw.normaliser != normaliser::VERSION {
        return refuse("normaliser", format!("it is {}, this program knows {}", raw.normaliser, normaliser::VERSION));
    }
    if raw.statistics != normaliser::STATISTICS {
        return refuse("statistics", format!("normaliser 2 gives {:?}, in this order", normaliser::STATISTICS));
    }
    if raw.history_steps != normaliser::HISTORY {
        return refuse("history_steps", format!("normaliser 2 takes {}", normaliser::HISTORY));
    }
    let expected: Vec<(&str, usize)> = normaliser::sections(resources).collect();
    let same = raw.sections.iter().zip(&expected).all(|((name, length), one)| (name.as_str(), *length) == *one);
    if raw.sections.len() != expected.len() || !same {
        return refuse("sections", format!("from the other fields it must be {expected:?}"));
    }
    Ok(())
}

/// What it was trained on must be told: a site that retrains must see what is behind a model.
fn check_training_data(data: &BTreeMap<String, String>) -> Result<(), ModelError> {
    if data.is_empty() || data.values().any(|digest| digest_of(digest).is_none()) {
        return refuse("training_data", "it must name at least one file, each with its sha256".to_owned());
    }
    Ok(())
}

fn check_metrics(held_out: &HeldOut) -> Result<(), ModelError> {
    let shares = [held_out.coverage_p90, held_out.coverage_p95, held_out.coverage_p99];
    let sound = shares.iter().all(|share| (0.0..=1.0).contains(share));
    if !sound || !held_out.wql_ratio_to_ewma.is_finite() || held_out.wql_ratio_to_ewma <= 0.0 {
        return refuse("metrics", "coverages must lie in 0 to 1, and the ratio to EWMA above 0".to_owned());
    }
    Ok(())
}

/// Names stand in forecasts, logs and tables, so they are short and plain.
fn check_name(name: &str) -> Result<(), ModelError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) {
        return refuse("name", format!("it must be 1 to {MAX_NAME_BYTES} of a-z, 0-9 and -"));
    }
    Ok(())
}

fn checked_resources(resources: &[RawResource]) -> Result<Vec<ResourceKind>, ModelError> {
    let kinds: Vec<ResourceKind> = resources
        .iter()
        .map(|kind| match kind {
            RawResource::Cpu => ResourceKind::Cpu,
            RawResource::Memory => ResourceKind::Memory,
            RawResource::Disk => ResourceKind::Disk,
            RawResource::Network => ResourceKind::Network,
        })
        .collect();
    let repeated =
        kinds.iter().enumerate().any(|(index, kind)| kinds.iter().skip(index + 1).any(|other| other == kind));
    if kinds.is_empty() || repeated {
        return refuse("resources", "it must list at least one kind, each once".to_owned());
    }
    Ok(kinds)
}

/// Forecasts of one deployment have one form, so models must give exactly these levels.
fn check_levels(field: &'static str, levels: &[f64], expected: &[f64]) -> Result<(), ModelError> {
    let same = levels.iter().zip(expected).all(|(one, other)| (one - other).abs() < SAME_LEVEL);
    if levels.len() != expected.len() || !same {
        return refuse(field, format!("it must be {expected:?}"));
    }
    Ok(())
}

/// Inputs and outputs must be those that follow from the other fields, in this order.
fn check_tensors(raw: &Raw, features: usize) -> Result<(), ModelError> {
    let inputs = [tensor("features", &[features])];
    let outputs =
        [tensor("steps", &[STEPS, QUANTILE_LEVELS.len()]), tensor("peaks", &[PEAK_STEPS.len(), PEAK_LEVELS.len()])];
    if raw.inputs != inputs {
        return refuse("inputs", format!("from the other fields it must be {inputs:?}"));
    }
    if raw.outputs != outputs {
        return refuse("outputs", format!("from the other fields it must be {outputs:?}"));
    }
    Ok(())
}

fn tensor(name: &str, dimensions: &[usize]) -> RawTensor {
    let mut shape = vec![RawDimension::Named(BATCH.to_owned())];
    shape.extend(dimensions.iter().copied().map(RawDimension::Fixed));
    RawTensor { name: name.to_owned(), element: "f32".to_owned(), shape }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const SHIPPED: &[u8] = include_bytes!("../demand.manifest.json");

    fn refused_field(change: impl FnOnce(&mut Value)) -> &'static str {
        let mut manifest: Value = serde_json::from_slice(SHIPPED).unwrap();
        change(&mut manifest);
        match Manifest::check(manifest.to_string().as_bytes()) {
            Err(ModelError::ManifestField { field, .. }) => field,
            Err(ModelError::ManifestForm(_)) => "(form)",
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn the_shipped_manifest_is_accepted() {
        let manifest = Manifest::check(SHIPPED).unwrap();
        assert_eq!(
            manifest.resources,
            [ResourceKind::Cpu, ResourceKind::Memory, ResourceKind::Disk, ResourceKind::Network]
        );
        assert!(manifest.held_out.wql_ratio_to_ewma < 0.95);
    }

    #[test]
    fn each_field_that_cannot_be_honoured_is_named() {
        assert_eq!(refused_field(|m| m["form"] = json!(1)), "form");
        assert_eq!(refused_field(|m| m["normaliser"] = json!(1)), "normaliser");
        assert_eq!(refused_field(|m| m["name"] = json!("De mand")), "name");
        assert_eq!(refused_field(|m| m["sha256"] = json!("00")), "sha256");
        assert_eq!(refused_field(|m| m["statistics"] = json!(["last"])), "statistics");
        assert_eq!(refused_field(|m| m["sections"][0][1] = json!(95)), "sections");
        assert_eq!(refused_field(|m| m["resources"] = json!(["cpu", "cpu"])), "resources");
        assert_eq!(refused_field(|m| m["resources"] = json!(["gpu"])), "(form)");
        assert_eq!(refused_field(|m| m["history_steps"] = json!(96)), "history_steps");
        assert_eq!(refused_field(|m| m["horizon_steps"] = json!(13)), "horizon_steps");
        assert_eq!(refused_field(|m| m["quantile_levels"][0] = json!(0.2)), "quantile_levels");
        assert_eq!(refused_field(|m| drop(m["quantile_levels"].as_array_mut().unwrap().pop())), "quantile_levels");
        assert_eq!(refused_field(|m| m["peak_levels"] = json!([0.5, 1.0])), "peak_levels");
        assert_eq!(refused_field(|m| m["peak_steps"] = json!([3, 6, 13])), "peak_steps");
        assert_eq!(refused_field(|m| m["inputs"][0]["name"] = json!("x")), "inputs");
        assert_eq!(refused_field(|m| m["outputs"][1]["shape"][2] = json!(6)), "outputs");
        assert_eq!(refused_field(|m| m["training_data"] = json!({})), "training_data");
        assert_eq!(refused_field(|m| m["training_data"] = json!({"traces": "00"})), "training_data");
        assert_eq!(refused_field(|m| m["metrics"]["all"]["methods"]["model"]["coverage_0.9"] = json!(90)), "metrics");
        assert_eq!(refused_field(|m| m["metrics"] = json!({})), "(form)");
        assert_eq!(refused_field(|m| m["unheard_of"] = json!(1)), "(form)");
        assert_eq!(refused_field(|m| drop(m.as_object_mut().unwrap().remove("opset"))), "(form)");
    }

    #[test]
    fn an_oversized_manifest_is_refused_unread() {
        let error = Manifest::check(&vec![b' '; MAX_MANIFEST_BYTES + 1]).unwrap_err();
        assert!(matches!(error, ModelError::ManifestTooLarge { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn damaged_manifests_never_panic(at in 0..SHIPPED.len(), byte: u8, end in 0..SHIPPED.len()) {
            let mut damaged = SHIPPED.to_vec();
            damaged[at] = byte;
            let _ = Manifest::check(&damaged);
            prop_assert!(Manifest::check(&SHIPPED[..end]).is_err() || SHIPPED[end..].trim_ascii().is_empty());
        }
    }
}
