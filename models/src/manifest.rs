//! The manifest: what a model file must be. Raw JSON in, a checked value out.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::ModelError;
use crate::normaliser;
use crate::prediction::Levels;
use crate::resource::ResourceKind;

/// Largest manifest read.
pub const MAX_MANIFEST_BYTES: usize = 256 * 1024;
/// Largest ONNX file read: design §6 wants small models.
pub const MAX_MODEL_BYTES: usize = 5 * 1024 * 1024;

const FORM: u32 = 1;
const MAX_NAME_BYTES: usize = 64;
const MAX_STEPS: usize = 4096;
const MAX_LEVELS: usize = 64;
const BATCH: &str = "batch";

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
    resources: Vec<ResourceKind>,
    statistics: Vec<String>,
    context_steps: usize,
    horizon_steps: usize,
    quantile_levels: Vec<f64>,
    peak_steps: Vec<usize>,
    peak_levels: Vec<f64>,
    normaliser: u32,
    #[serde(rename = "seed")]
    _seed: IgnoredAny,
    #[serde(rename = "training")]
    _training: IgnoredAny,
    #[serde(rename = "training_data")]
    _training_data: IgnoredAny,
    #[serde(rename = "libraries")]
    _libraries: IgnoredAny,
    #[serde(rename = "metrics")]
    _metrics: IgnoredAny,
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

/// A manifest that this program can honour. Only [`Manifest::check`] makes one.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) sha256: [u8; 32],
    pub(crate) opset: i64,
    pub(crate) resources: Vec<ResourceKind>,
    pub(crate) context_steps: usize,
    pub(crate) horizon_steps: usize,
    pub(crate) levels: Levels,
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
        if raw.normaliser != normaliser::VERSION {
            return refuse(
                "normaliser",
                format!("it is {}, this program knows {}", raw.normaliser, normaliser::VERSION),
            );
        }
        if raw.statistics != normaliser::STATISTICS {
            return refuse("statistics", format!("normaliser 1 gives {:?}, in this order", normaliser::STATISTICS));
        }
        check_name(&raw.name)?;
        check_resources(&raw.resources)?;
        check_steps("context_steps", raw.context_steps)?;
        check_steps("horizon_steps", raw.horizon_steps)?;
        check_levels("quantile_levels", &raw.quantile_levels)?;
        check_levels("peak_levels", &raw.peak_levels)?;
        check_peak_steps(&raw.peak_steps, raw.horizon_steps)?;
        check_tensors(&raw)?;
        let sha256 =
            data_encoding::HEXLOWER.decode(raw.sha256.as_bytes()).ok().and_then(|digest| digest.try_into().ok());
        let Some(sha256) = sha256 else {
            return refuse("sha256", "it must be 64 lower-case hexadecimal digits".to_owned());
        };
        Ok(Self {
            name: raw.name,
            sha256,
            opset: raw.opset,
            resources: raw.resources,
            context_steps: raw.context_steps,
            horizon_steps: raw.horizon_steps,
            levels: Levels {
                quantile_levels: raw.quantile_levels,
                peak_steps: raw.peak_steps,
                peak_levels: raw.peak_levels,
            },
        })
    }
}

fn refuse<T>(field: &'static str, why: String) -> Result<T, ModelError> {
    Err(ModelError::ManifestField { field, why })
}

/// Names stand in forecasts, logs and tables, so they are short and plain.
fn check_name(name: &str) -> Result<(), ModelError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) {
        return refuse("name", format!("it must be 1 to {MAX_NAME_BYTES} of a-z, 0-9 and -"));
    }
    Ok(())
}

fn check_resources(resources: &[ResourceKind]) -> Result<(), ModelError> {
    let repeated =
        resources.iter().enumerate().any(|(index, kind)| resources.iter().skip(index + 1).any(|other| other == kind));
    if resources.is_empty() || repeated {
        return refuse("resources", "it must list at least one kind, each once".to_owned());
    }
    Ok(())
}

fn check_steps(field: &'static str, steps: usize) -> Result<(), ModelError> {
    if steps == 0 || steps > MAX_STEPS {
        return refuse(field, format!("it is {steps}, it must be 1 to {MAX_STEPS}"));
    }
    Ok(())
}

fn check_levels(field: &'static str, levels: &[f64]) -> Result<(), ModelError> {
    if levels.is_empty() || levels.len() > MAX_LEVELS {
        return refuse(field, format!("it has {} levels, it must have 1 to {MAX_LEVELS}", levels.len()));
    }
    let inside = levels.iter().all(|level| *level > 0.0 && *level < 1.0);
    if !inside || !levels.is_sorted_by(|one, next| one < next) {
        return refuse(field, "its levels must lie between 0 and 1 and ascend".to_owned());
    }
    Ok(())
}

fn check_peak_steps(peak_steps: &[usize], horizon_steps: usize) -> Result<(), ModelError> {
    let inside = peak_steps.iter().all(|steps| (1..=horizon_steps).contains(steps));
    if peak_steps.is_empty() || !inside || !peak_steps.is_sorted_by(|one, next| one < next) {
        return refuse("peak_steps", format!("it must list lengths from 1 to {horizon_steps}, ascending"));
    }
    Ok(())
}

/// Inputs and outputs must be those that follow from the other fields, in this order.
fn check_tensors(raw: &Raw) -> Result<(), ModelError> {
    let inputs = [
        tensor("context", &[raw.context_steps]),
        tensor("mask", &[raw.context_steps]),
        tensor("statistics", &[raw.statistics.len()]),
        tensor("resource", &[raw.resources.len()]),
    ];
    let outputs = [
        tensor("steps", &[raw.horizon_steps, raw.quantile_levels.len()]),
        tensor("peaks", &[raw.peak_steps.len(), raw.peak_levels.len()]),
    ];
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
        assert_eq!(manifest.levels.peak_steps, [3, 6, 12]);
        assert_eq!(manifest.resources, ResourceKind::ALL);
    }

    #[test]
    fn each_field_that_cannot_be_honoured_is_named() {
        assert_eq!(refused_field(|m| m["form"] = json!(2)), "form");
        assert_eq!(refused_field(|m| m["normaliser"] = json!(2)), "normaliser");
        assert_eq!(refused_field(|m| m["name"] = json!("De mand")), "name");
        assert_eq!(refused_field(|m| m["sha256"] = json!("00")), "sha256");
        assert_eq!(refused_field(|m| m["statistics"] = json!(["last"])), "statistics");
        assert_eq!(refused_field(|m| m["resources"] = json!(["cpu", "cpu"])), "resources");
        assert_eq!(refused_field(|m| m["resources"] = json!(["gpu"])), "(form)");
        assert_eq!(refused_field(|m| m["context_steps"] = json!(0)), "context_steps");
        assert_eq!(refused_field(|m| m["context_steps"] = json!(95)), "inputs");
        assert_eq!(refused_field(|m| m["horizon_steps"] = json!(1_000_000)), "horizon_steps");
        assert_eq!(refused_field(|m| m["horizon_steps"] = json!(13)), "outputs");
        assert_eq!(refused_field(|m| m["quantile_levels"] = json!([0.5, 0.4])), "quantile_levels");
        assert_eq!(refused_field(|m| m["quantile_levels"] = json!([0.5, 0.5])), "quantile_levels");
        assert_eq!(refused_field(|m| m["peak_levels"] = json!([0.5, 1.0])), "peak_levels");
        assert_eq!(refused_field(|m| m["peak_levels"] = json!([])), "peak_levels");
        assert_eq!(refused_field(|m| m["peak_steps"] = json!([3, 6, 13])), "peak_steps");
        assert_eq!(refused_field(|m| m["inputs"][0]["name"] = json!("x")), "inputs");
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
