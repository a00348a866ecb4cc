//! A model that has passed its manifest, and its forecasts.

use std::fmt;

use quotary_common::units::ResourceKind;
use quotary_decide::forecast::{ModelFault, ModelRef, Past, QuantileModel, Quantiles};
use ring::digest::{SHA256, digest};

use crate::error::{ContextFault, ModelError};
use crate::manifest::{HeldOut, MAX_MODEL_BYTES, Manifest};
use crate::network::{BATCH, Network, Outputs};
use crate::normaliser::{FEATURES, Mapping};

const SHIPPED_MANIFEST: &[u8] = include_bytes!("../demand.manifest.json");
const SHIPPED_ONNX: &[u8] = include_bytes!("../demand.onnx");

/// The model that is built in. Loading takes milliseconds: load once and share it.
///
/// # Errors
/// As [`Model::load`]; a test holds that there is none.
pub fn shipped() -> Result<Model, ModelError> {
    Model::load(SHIPPED_MANIFEST, SHIPPED_ONNX)
}

/// The two files of the model that is built in: manifest, then ONNX.
pub fn shipped_files() -> (&'static [u8], &'static [u8]) {
    (SHIPPED_MANIFEST, SHIPPED_ONNX)
}

/// A loaded model. Only [`Model::load`] makes one; threads may share it.
pub struct Model {
    reference: ModelRef,
    resources: Vec<ResourceKind>,
    held_out: HeldOut,
    network: Network,
}

impl Model {
    /// Loads a model of which the manifest says what it must be: size, digest, opset, input, outputs. A trial run per kind of
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
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        if found.as_ref() != manifest.sha256 {
            return Err(ModelError::Digest {
                name: manifest.name,
                pinned: hex(&manifest.sha256),
                found: hex(found.as_ref()),
            });
        }
        let network = Network::load(&manifest, onnx)?;
        let reference = ModelRef { name: manifest.name, sha256: hex(&manifest.sha256) };
        let model = Self { reference, resources: manifest.resources, held_out: manifest.held_out, network };
        for resource in &model.resources {
            let values = [Some(1.0), None, Some(2.0), Some(3.0)];
            model.forecast(&Past { measure: (*resource).into(), interval_s: 300, values: &values })?;
        }
        Ok(model)
    }

    /// Its name and its digest, as forecasts carry them.
    #[must_use]
    pub fn reference(&self) -> &ModelRef {
        &self.reference
    }

    /// What its manifest says of it on data that it was not trained on.
    #[must_use]
    pub fn held_out(&self) -> &HeldOut {
        &self.held_out
    }

    /// Forecasts one series. One known value among the newest 96 suffices, though little can follow from it; what is older than
    /// 312 steps has no influence.
    ///
    /// # Errors
    /// A past without a value, or with one that is no demand; a kind of resource that the model does not know; a model that
    /// gives no finite numbers.
    pub fn forecast(&self, past: &Past<'_>) -> Result<Quantiles, ModelError> {
        let mut answers = self.forecast_all(std::slice::from_ref(past));
        answers.pop().unwrap_or(Err(ModelError::Context(ContextFault::Empty)))
    }

    /// Forecasts many series, several at a time: one answer for each, in their order. One that fails moves no other.
    ///
    /// # Errors
    /// For each as [`Model::forecast`].
    pub fn forecast_all(&self, pasts: &[Past<'_>]) -> Vec<Result<Quantiles, ModelError>> {
        let mut answers = Vec::with_capacity(pasts.len());
        let width = FEATURES + self.resources.len();
        for part in pasts.chunks(BATCH) {
            let mut features = vec![0.0; width * part.len()];
            let mappings: Vec<Result<Mapping, ModelError>> = part
                .iter()
                .zip(features.chunks_exact_mut(width))
                .map(|(past, features)| self.prepare(past, features))
                .collect();
            answers.extend(self.run(&mut features, mappings));
        }
        answers
    }

    fn prepare(&self, past: &Past<'_>, features: &mut [f32]) -> Result<Mapping, ModelError> {
        let unknown = || ModelError::Measure { name: self.reference.name.clone(), measure: past.measure };
        let known = |kind: &ResourceKind| Some(*kind) == past.measure.resource();
        let kind = self.resources.iter().position(known).ok_or_else(unknown)?;
        let mapping = Mapping::write(past, features)?;
        if let Some(place) = features.get_mut(FEATURES + kind) {
            *place = 1.0;
        }
        Ok(mapping)
    }

    /// A row that could not be prepared is run as zeros, and told as what it is.
    fn run(
        &self,
        features: &mut Vec<f32>,
        mappings: Vec<Result<Mapping, ModelError>>,
    ) -> Vec<Result<Quantiles, ModelError>> {
        let name = &self.reference.name;
        let rows = mappings.len();
        match self.network.run(name, features, rows) {
            Ok(outputs) => mappings
                .into_iter()
                .enumerate()
                .map(|(row, mapping)| mapping.and_then(|mapping| self.restore(&mapping, &outputs, row)))
                .collect(),
            // One bad row must not cost the others their answer: each by itself.
            Err(_) if rows > 1 => {
                let width = FEATURES + self.resources.len();
                let singles = features.chunks_exact(width).map(<[f32]>::to_vec).zip(mappings);
                singles.flat_map(|(mut features, mapping)| self.run(&mut features, vec![mapping])).collect()
            }
            Err(error) => vec![Err(error)],
        }
    }

    fn restore(&self, mapping: &Mapping, outputs: &Outputs, row: usize) -> Result<Quantiles, ModelError> {
        let fail = |output| ModelError::NotFinite { name: self.reference.name.clone(), output };
        let (steps, peaks) = outputs.row(row).ok_or_else(|| fail("steps"))?;
        Quantiles::from_raw(mapping.restore(steps), mapping.restore(peaks)).ok_or_else(|| fail("steps or peaks"))
    }
}

impl QuantileModel for Model {
    fn reference(&self) -> &ModelRef {
        &self.reference
    }

    fn quantiles(&self, pasts: &[Past<'_>]) -> Vec<Result<Quantiles, ModelFault>> {
        let told = |error: ModelError| match error {
            ModelError::Context(fault) => ModelFault::Past(fault.to_string()),
            ModelError::Measure { .. } => ModelFault::Measure,
            other => ModelFault::Failed(other.to_string()),
        };
        self.forecast_all(pasts).into_iter().map(|answer| answer.map_err(told)).collect()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Model").field("reference", &self.reference).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
