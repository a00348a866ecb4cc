//! Runs tract (only this file and `graph.rs` know it): from ONNX bytes to a plan with batch 1, and from mapped inputs to raw outputs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::{
    Datum, Framework, InferenceFact, InferenceModelExt, IntoRunnable, Tensor, TractResult, TypedRunnableModel, tvec,
};

use crate::error::{Cause, ModelError};
use crate::graph;
use crate::manifest::Manifest;
use crate::normaliser::STATISTICS;

const INPUTS: [&str; 4] = ["context", "mask", "statistics", "resource"];
const OUTPUTS: [&str; 2] = ["steps", "peaks"];

/// A loaded network. Running it changes nothing in it, so threads may share it.
pub(crate) struct Network {
    plan: Arc<TypedRunnableModel>,
    shapes: Shapes,
}

#[derive(Debug)]
struct Shapes {
    steps: [usize; 3],
    peaks: [usize; 3],
}

/// What goes into the network, each as long as the manifest says.
pub(crate) struct Inputs<'a> {
    pub(crate) context: &'a [f32],
    pub(crate) mask: &'a [f32],
    pub(crate) statistics: &'a [f32],
    pub(crate) resource: &'a [f32],
}

/// Raw rows in the mapped space: per step the quantiles, per peak length the peak quantiles.
pub(crate) struct Outputs {
    pub(crate) steps: Vec<Vec<f32>>,
    pub(crate) peaks: Vec<Vec<f32>>,
}

impl Network {
    /// Parses and optimises. The caller has checked size and digest. Weights outside the file are refused by tract, as
    /// no directory is given.
    ///
    /// # Errors
    /// Not ONNX, another opset, operators or shapes that tract cannot run.
    pub(crate) fn load(manifest: &Manifest, onnx: &[u8]) -> Result<Self, ModelError> {
        let fail = |step| {
            let name = manifest.name.clone();
            move |source| ModelError::Load { name, step, source }
        };
        let framework = tract_onnx::onnx();
        let proto = contained(|| framework.proto_model_for_read(&mut &*onnx)).map_err(fail("reading it as ONNX"))?;
        graph::check(manifest, &proto)?;
        let parsed = contained(|| framework.model_for_proto_model(&proto)).map_err(fail("finding its operators"))?;
        let named = contained(|| parsed.with_input_names(INPUTS)?.with_outputs_by_name(OUTPUTS))
            .map_err(fail("finding its inputs and outputs"))?;
        let lengths = [manifest.context_steps, manifest.context_steps, STATISTICS.len(), manifest.resources.len()];
        let plan = contained(|| {
            let facts = lengths.iter().map(|length| InferenceFact::dt_shape(f32::datum_type(), tvec!(1, *length)));
            let shaped =
                facts.enumerate().try_fold(named, |model, (index, fact)| model.with_input_fact(index, fact))?;
            shaped.into_optimized()?.into_runnable()
        })
        .map_err(fail("optimising it for the manifest's shapes"))?;
        let levels = &manifest.levels;
        let shapes = Shapes {
            steps: [1, manifest.horizon_steps, levels.quantile_levels.len()],
            peaks: [1, levels.peak_steps.len(), levels.peak_levels.len()],
        };
        Ok(Self { plan, shapes })
    }

    /// Runs once.
    ///
    /// # Errors
    /// The engine fails, an output has another shape than the manifest says, or holds a value that is not finite.
    pub(crate) fn run(&self, name: &str, inputs: &Inputs<'_>) -> Result<Outputs, ModelError> {
        let values = [inputs.context, inputs.mask, inputs.statistics, inputs.resource];
        let outputs = contained(|| {
            let tensors = values.into_iter().map(|one| Ok(Tensor::from_shape(&[1, one.len()], one)?.into()));
            self.plan.run(tensors.collect::<TractResult<_>>()?)
        })
        .map_err(|source| ModelError::Run { name: name.to_owned(), source })?;
        let mut tensors = outputs.iter().map(|output| &**output);
        let mut next = |output, stated| rows_of(name, output, stated, tensors.next());
        Ok(Outputs { steps: next(OUTPUTS[0], &self.shapes.steps)?, peaks: next(OUTPUTS[1], &self.shapes.peaks)? })
    }
}

/// Runs a step of the engine. tract panics on some malformed files (a graph that names a missing tensor); a bad model must not
/// end the verifier, so a panic becomes an error. What `work` touches is dropped or only read afterwards.
fn contained<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, Cause> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(Into::into),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(format!("the inference engine panicked: {text}").into())
        }
    }
}

/// Rows of one output after checking shape and values.
fn rows_of(
    name: &str,
    output: &'static str,
    stated: &[usize; 3],
    tensor: Option<&Tensor>,
) -> Result<Vec<Vec<f32>>, ModelError> {
    let found = tensor.map(Tensor::shape).unwrap_or_default();
    if found != stated.as_slice() {
        return Err(ModelError::OutputShape {
            name: name.to_owned(),
            output,
            stated: stated.to_vec(),
            found: found.to_vec(),
        });
    }
    let view = tensor.map(Tensor::to_plain_array_view::<f32>).transpose();
    let view = view.map_err(|source| ModelError::Run { name: name.to_owned(), source: source.into() })?;
    let values: Vec<f32> = view.into_iter().flat_map(|view| view.iter().copied().collect::<Vec<_>>()).collect();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(ModelError::NotFinite { name: name.to_owned(), output });
    }
    Ok(values.chunks(stated[2]).map(<[f32]>::to_vec).collect())
}
