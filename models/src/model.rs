//! A model that has passed its manifest, and its forecasts.

use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use crate::error::ModelError;
use crate::manifest::{MAX_MODEL_BYTES, Manifest};
use crate::network::{Inputs, Network, Outputs};
use crate::normaliser::Mapped;
use crate::prediction::{Levels, Prediction};
use crate::resource::ResourceKind;

const SHIPPED_MANIFEST: &[u8] = include_bytes!("../demand.manifest.json");
const SHIPPED_ONNX: &[u8] = include_bytes!("../demand.onnx");

/// The model that is built in. Loading takes milliseconds: load once and share it.
///
/// # Errors
/// As [`Model::load`]; a test holds that there is none.
pub fn shipped() -> Result<Model, ModelError> {
    Model::load(SHIPPED_MANIFEST, SHIPPED_ONNX)
}

/// A loaded model. Only [`Model::load`] makes one; threads may share it.
pub struct Model {
    name: String,
    sha256: [u8; 32],
    context_steps: usize,
    resources: Vec<ResourceKind>,
    levels: Arc<Levels>,
    network: Network,
}

impl Model {
    /// Loads a model of which the manifest says what it must be: size, digest, opset, inputs, outputs. A trial run per kind of
    /// resource shows that outputs have the stated shapes.
    ///
    /// # Errors
    /// The manifest cannot be honoured, or the file is not what it says.
    pub fn load(manifest: &[u8], onnx: &[u8]) -> Result<Self, ModelError> {
        let manifest = Manifest::check(manifest)?;
        if onnx.len() > MAX_MODEL_BYTES {
            return Err(ModelError::ModelTooLarge { name: manifest.name, bytes: onnx.len(), limit: MAX_MODEL_BYTES });
        }
        let found = digest(&SHA256, onnx);
        if found.as_ref() != manifest.sha256 {
            let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
            return Err(ModelError::Digest {
                name: manifest.name,
                pinned: hex(&manifest.sha256),
                found: hex(found.as_ref()),
            });
        }
        let network = Network::load(&manifest, onnx)?;
        let model = Self {
            name: manifest.name,
            sha256: manifest.sha256,
            context_steps: manifest.context_steps,
            resources: manifest.resources,
            levels: Arc::new(manifest.levels),
            network,
        };
        for resource in &model.resources {
            model.predict(*resource, &[Some(1.0), None, Some(2.0), Some(3.0)])?;
        }
        Ok(model)
    }

    /// The name that forecasts carry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the ONNX file.
    #[must_use]
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// How many steps of a context the model sees; older ones have no influence.
    #[must_use]
    pub fn context_steps(&self) -> usize {
        self.context_steps
    }

    /// Forecasts from `context`: demand per step, oldest first, newest last, `None` where nothing is known, in any unit.
    /// It may be shorter or longer than [`Model::context_steps`]; one known value suffices, though little can follow from it.
    /// The forecast is in the same unit and its steps are as long as the context's.
    ///
    /// # Errors
    /// A context without a value, or with one that is no demand; a kind of resource that the model does not know; a model that
    /// gives no finite numbers.
    pub fn predict(&self, resource: ResourceKind, context: &[Option<f64>]) -> Result<Prediction, ModelError> {
        let mapped = Mapped::from_context(context, self.context_steps)?;
        let raw = self.run(resource, &mapped)?;
        let steps = self.restore("steps", &mapped, &raw.steps)?;
        let peaks = self.restore("peaks", &mapped, &raw.peaks)?;
        Ok(Prediction::from_rows(Arc::clone(&self.levels), steps, peaks))
    }

    fn run(&self, resource: ResourceKind, mapped: &Mapped) -> Result<Outputs, ModelError> {
        if !self.resources.contains(&resource) {
            return Err(ModelError::Resource { name: self.name.clone(), resource });
        }
        let one_hot: Vec<f32> = self.resources.iter().map(|kind| if *kind == resource { 1.0 } else { 0.0 }).collect();
        let inputs =
            Inputs { context: &mapped.context, mask: &mapped.mask, statistics: &mapped.statistics, resource: &one_hot };
        self.network.run(&self.name, &inputs)
    }

    fn restore(&self, output: &'static str, mapped: &Mapped, rows: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, ModelError> {
        let restored: Vec<Vec<f64>> =
            rows.iter().map(|row| row.iter().map(|value| mapped.restore(*value)).collect()).collect();
        if restored.iter().flatten().any(|value| !value.is_finite()) {
            return Err(ModelError::NotFinite { name: self.name.clone(), output });
        }
        Ok(restored)
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sha256 = data_encoding::HEXLOWER.encode(&self.sha256);
        formatter.debug_struct("Model").field("name", &self.name).field("sha256", &sha256).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
