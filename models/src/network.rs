//! Runs tract (only this file and `graph.rs` know it): from ONNX bytes to plans for one row and for many, and from features to raw
//! outputs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use quotary_decide::forecast::{PEAK_LEVELS, PEAK_STEPS, QUANTILE_LEVELS, STEPS};
use tract_onnx::prelude::{
    Datum, Framework, InferenceFact, InferenceModelExt, IntoRunnable, Tensor, TractError, TractResult, TypedFact,
    TypedModel, TypedRunnableModel, tvec,
};

use crate::error::{Cause, ModelError};
use crate::graph;
use crate::manifest::Manifest;

const INPUT: &str = "features";
const OUTPUTS: [&str; 2] = ["steps", "peaks"];
/// Rows that run at once at most.
pub(crate) const BATCH: usize = 256;
/// Numbers of rows that there are plans for: tract optimises for fixed sizes.
const SIZES: [usize; 4] = [1, 8, 64, BATCH];

/// A loaded network. Running it changes nothing in it, so threads may share it.
pub(crate) struct Network {
    /// By the rows that each takes, fewest first.
    plans: Vec<(usize, Arc<TypedRunnableModel>)>,
    width: usize,
}

/// Raw outputs in the mapped space, rows one after another.
pub(crate) struct Outputs {
    steps: Vec<f32>,
    peaks: Vec<f32>,
}

type RawRow = ([[f32; QUANTILE_LEVELS.len()]; STEPS], [[f32; PEAK_LEVELS.len()]; PEAK_STEPS.len()]);

impl Outputs {
    /// One row's steps and peaks.
    pub(crate) fn row(&self, row: usize) -> Option<RawRow> {
        let (mut steps, mut peaks) =
            ([[0.0; QUANTILE_LEVELS.len()]; STEPS], [[0.0; PEAK_LEVELS.len()]; PEAK_STEPS.len()]);
        fill(&mut steps, &self.steps, row)?;
        fill(&mut peaks, &self.peaks, row)?;
        Some((steps, peaks))
    }
}

fn fill<const LEVELS: usize>(rows: &mut [[f32; LEVELS]], flat: &[f32], row: usize) -> Option<()> {
    let size = rows.len() * LEVELS;
    let values = flat.get(row * size..(row + 1) * size)?;
    for (place, values) in rows.iter_mut().zip(values.chunks_exact(LEVELS)) {
        place.copy_from_slice(values);
    }
    Some(())
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
        let named = contained(|| parsed.with_input_names([INPUT])?.with_outputs_by_name(OUTPUTS))
            .map_err(fail("finding its inputs and outputs"))?;
        let width = manifest.features;
        let plan = |rows: usize| {
            let named = named.clone();
            contained(move || {
                let fact = InferenceFact::dt_shape(f32::datum_type(), tvec!(rows, width));
                let typed = named.with_input_fact(0, fact)?.into_typed()?;
                check_cost(&typed)?;
                typed.into_optimized()?.into_runnable()
            })
            .map_err(fail("optimising it for the manifest's shapes"))
        };
        let plans = SIZES.into_iter().map(|rows| Ok((rows, plan(rows)?))).collect::<Result<_, ModelError>>()?;
        Ok(Self { plans, width })
    }

    /// Runs `rows` rows of `features`, at most [`BATCH`]; they are filled up to the next size that there is a plan for.
    ///
    /// # Errors
    /// The engine fails, an output has another shape than the manifest says, or holds a value that is not finite.
    pub(crate) fn run(&self, name: &str, features: &mut Vec<f32>, rows: usize) -> Result<Outputs, ModelError> {
        let fits = self.plans.iter().find(|(size, _)| *size >= rows);
        let Some((size, plan)) = fits.map(|(size, plan)| (*size, plan)) else {
            let source = format!("{rows} rows at once, more than {BATCH}").into();
            return Err(ModelError::Run { name: name.to_owned(), source });
        };
        features.resize(size * self.width, 0.0);
        let outputs = contained(|| {
            let tensor = Tensor::from_shape(&[size, self.width], features)?;
            plan.run(tvec!(tensor.into()))
        });
        features.truncate(rows * self.width);
        let outputs = outputs.map_err(|source| ModelError::Run { name: name.to_owned(), source })?;
        let mut tensors = outputs.iter().map(|output| &**output);
        let mut next = |output, stated| values_of(name, output, stated, rows, tensors.next());
        Ok(Outputs {
            steps: next(OUTPUTS[0], [size, STEPS, QUANTILE_LEVELS.len()])?,
            peaks: next(OUTPUTS[1], [size, PEAK_STEPS.len(), PEAK_LEVELS.len()])?,
        })
    }
}

/// Values that all steps of a batch make together: a gigabyte. The shipped model makes a four hundredth of it.
const VALUES_MAX: f64 = 2.56e8;
/// What a batch may cost: about thirty times the shipped model, by the estimate below.
const COST_MAX: f64 = 1e10;

/// Before anything runs: a graph of few small numbers can still ask for more memory than there is, which nothing survives, or for hours.
/// A product of matrices costs the root of the product of all three sizes; anything else with two inputs costs no more.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn check_cost(model: &TypedModel) -> TractResult<()> {
    let size =
        |fact: &TypedFact| fact.shape.as_concrete().map(|shape| shape.iter().map(|one| *one as f64).product::<f64>());
    let (mut values, mut cost) = (0.0, 0.0);
    for node in &model.nodes {
        let unknown = || TractError::msg(format!("node {:?} has no fixed shape", node.name));
        let made = node.outputs.iter().map(|output| size(&output.fact)).sum::<Option<f64>>().ok_or_else(unknown)?;
        let taken = node.inputs.iter().map(|inlet| size(model.outlet_fact(*inlet).ok()?)).product::<Option<f64>>();
        values += made;
        cost += if node.inputs.len() == 2 { (made * taken.ok_or_else(unknown)?).sqrt() } else { made };
    }
    if values <= VALUES_MAX && cost <= COST_MAX {
        return Ok(());
    }
    let most = format!("at most {VALUES_MAX:.0} and {COST_MAX:.0} are allowed");
    Err(TractError::msg(format!("a batch would make {values:.0} values and cost {cost:.0}: {most}")))
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

/// The values of one output's first `rows` rows after checking shape and values.
fn values_of(
    name: &str,
    output: &'static str,
    stated: [usize; 3],
    rows: usize,
    tensor: Option<&Tensor>,
) -> Result<Vec<f32>, ModelError> {
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
    let wanted = rows * stated[1] * stated[2];
    let whole = view.as_ref().and_then(|view| view.as_slice()).unwrap_or_default();
    let values = whole.get(..wanted).unwrap_or_default().to_vec();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(ModelError::NotFinite { name: name.to_owned(), output });
    }
    Ok(values)
}
