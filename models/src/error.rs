//! What can be wrong with a model, its manifest or a context.

use quotary_decide::history::Measure;
use thiserror::Error;

/// A cause whose type is the inference engine's own and stays hidden.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a model was not loaded or gave no forecast. In every case the caller can do without it: use the statistical rung and say so.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The manifest is larger than [`crate::MAX_MANIFEST_BYTES`].
    #[error("the model manifest has {bytes} bytes, more than the limit of {limit}: is this a manifest?")]
    ManifestTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The manifest is not JSON of the known form.
    #[error("the model manifest cannot be read: give the manifest that train.py wrote beside the model")]
    ManifestForm(#[source] serde_json::Error),
    /// A field of the manifest has a value that this program cannot honour.
    #[error("the model manifest's field {field} is refused: {why}")]
    ManifestField {
        /// Name of the field.
        field: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The ONNX file is larger than [`crate::MAX_MODEL_BYTES`].
    #[error("model {name}: the ONNX file has {bytes} bytes, more than the limit of {limit}")]
    ModelTooLarge {
        /// The model's name.
        name: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The ONNX file is not the one that the manifest pins.
    #[error(
        "model {name}: the ONNX file's sha256 is {found}, the manifest pins {pinned}: restore the pair that belongs together"
    )]
    Digest {
        /// The model's name.
        name: String,
        /// Digest in the manifest, hexadecimal.
        pinned: String,
        /// Digest of the bytes given, hexadecimal.
        found: String,
    },
    /// The ONNX file imports other operator sets than the manifest says.
    #[error("model {name}: the ONNX file imports operator sets {found}, the manifest says ai.onnx {stated} alone")]
    Opset {
        /// The model's name.
        name: String,
        /// Version in the manifest.
        stated: i64,
        /// What the file imports.
        found: String,
    },
    /// The inference engine refused the file.
    #[error("model {name}: the ONNX file cannot be loaded ({step}): {source}")]
    Load {
        /// The model's name.
        name: String,
        /// What was being done.
        step: &'static str,
        /// The engine's reason.
        #[source]
        source: Cause,
    },
    /// An output has another shape than the manifest says.
    #[error("model {name}: output {output} has shape {found:?}, the manifest says {stated:?}")]
    OutputShape {
        /// The model's name.
        name: String,
        /// Name of the output.
        output: &'static str,
        /// Shape in the manifest.
        stated: Vec<usize>,
        /// Shape of what the model gave.
        found: Vec<usize>,
    },
    /// The model was not trained for what this series measures.
    #[error("model {name} knows nothing of {}", .measure.unit_name())]
    Measure {
        /// The model's name.
        name: String,
        /// What was asked for.
        measure: Measure,
    },
    /// The context cannot be forecast from.
    #[error("no forecast from this context: {0}")]
    Context(#[from] ContextFault),
    /// The inference engine failed on a context.
    #[error("model {name} failed to run: {source}")]
    Run {
        /// The model's name.
        name: String,
        /// The engine's reason.
        #[source]
        source: Cause,
    },
    /// The model gave NaN or an infinity, or mapping back overflowed.
    #[error("model {name}: output {output} holds a value that is not finite")]
    NotFinite {
        /// The model's name.
        name: String,
        /// Name of the output.
        output: &'static str,
    },
}

/// Why a context cannot be forecast from.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum ContextFault {
    /// No step of the context holds a value.
    #[error("none of its steps that the model sees holds a value")]
    Empty,
    /// A step is NaN, infinite or negative: demand is none of these.
    #[error("its step {index} holds {value}, which is no demand: demands are finite and not negative")]
    Value {
        /// Index into the context as given, oldest 0.
        index: usize,
        /// The value found.
        value: f64,
    },
    /// The values are so large that arithmetic on them overflows.
    #[error("its values are too large to calculate with")]
    Overflow,
}
