//! Looks an ONNX graph over before the engine does: only known operators, only small numbers.
//!
//! tract believes what a file says (a layer norm with axis -2^60 keeps it counting for years), so a file outside these bounds is
//! refused first. A model with another operator needs a line here, and a look at what tract does with its attributes.

use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

use crate::error::{Cause, ModelError};
use crate::manifest::{MAX_MODEL_BYTES, Manifest};

/// The longest dimension of a stored tensor: two of them make no more than tract can fold when it loads a file.
const MAX_LENGTH: i64 = 4096;
/// Places where tensors are joined, and how many at once: each makes one larger than a file says.
const MAX_JOINS: usize = 4;
const OPERATORS: [&str; 13] = [
    "Add",
    "Concat",
    "CumSum",
    "Gemm",
    "LayerNormalization",
    "MatMul",
    "Mul",
    "Relu",
    "Reshape",
    "Slice",
    "Softplus",
    "Sub",
    "Transpose",
];
const MAX_NODES: usize = 1024;
const MAX_TENSORS: usize = 4096;
const MAX_DIMENSIONS: usize = 8;
/// Axes and flags.
const MAX_ATTRIBUTE: u64 = 8;
const BYTES_PER_ELEMENT: usize = 4;

/// Checks operator sets and graph.
///
/// # Errors
/// Operator sets other than the manifest's; operators, attributes or sizes out of bounds.
pub(crate) fn check(manifest: &Manifest, model: &ModelProto) -> Result<(), ModelError> {
    check_opset(manifest, model)?;
    let fail = |source| ModelError::Load { name: manifest.name.clone(), step: "looking over its graph", source };
    let graph = model.graph.as_ref().ok_or_else(|| fail("it holds no graph".into()))?;
    check_graph(graph).map_err(fail)?;
    if model.functions.is_empty() && model.training_info.is_empty() {
        return Ok(());
    }
    Err(fail("it holds functions or training graphs".into()))
}

fn check_opset(manifest: &Manifest, model: &ModelProto) -> Result<(), ModelError> {
    // "" and "ai.onnx" both name the standard operators.
    let standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    if let [only] = model.opset_import.as_slice()
        && standard(&only.domain)
        && only.version == manifest.opset
    {
        return Ok(());
    }
    let sets = model.opset_import.iter().take(8);
    let found: Vec<_> = sets.map(|set| format!("{:?} {}", set.domain, set.version)).collect();
    Err(ModelError::Opset { name: manifest.name.clone(), stated: manifest.opset, found: found.join(", ") })
}

fn check_graph(graph: &GraphProto) -> Result<(), Cause> {
    if graph.node.len() > MAX_NODES || graph.initializer.len() > MAX_TENSORS {
        let (nodes, tensors) = (graph.node.len(), graph.initializer.len());
        return Err(format!("{nodes} nodes and {tensors} tensors, more than {MAX_NODES} and {MAX_TENSORS}").into());
    }
    if !graph.sparse_initializer.is_empty() {
        return Err("it holds sparse tensors".into());
    }
    let joins = graph.node.iter().filter(|node| node.op_type == "Concat");
    if joins.clone().count() > MAX_JOINS || joins.clone().any(|node| node.input.len() > MAX_JOINS) {
        return Err(format!("more than {MAX_JOINS} joins, or one of more than {MAX_JOINS} tensors").into());
    }
    graph.node.iter().try_for_each(check_node)?;
    graph.initializer.iter().try_for_each(check_tensor)
}

fn check_node(node: &NodeProto) -> Result<(), Cause> {
    if !OPERATORS.contains(&node.op_type.as_str()) {
        return Err(format!("operator {:?} is not among {OPERATORS:?}", node.op_type).into());
    }
    match node.attribute.iter().find(|attribute| !is_small(attribute)) {
        None => Ok(()),
        Some(attribute) => Err(format!("node {:?}: attribute {:?} is out of bounds", node.name, attribute.name).into()),
    }
}

/// Numbers only, small ones.
fn is_small(attribute: &AttributeProto) -> bool {
    let nested = attribute.t.is_some()
        || attribute.g.is_some()
        || attribute.sparse_tensor.is_some()
        || !attribute.tensors.is_empty()
        || !attribute.graphs.is_empty()
        || !attribute.sparse_tensors.is_empty();
    let mut integers = attribute.ints.iter().chain([&attribute.i]);
    !nested
        && attribute.ints.len() <= MAX_DIMENSIONS
        && attribute.floats.is_empty()
        && integers.all(|value| value.unsigned_abs() <= MAX_ATTRIBUTE)
}

/// A tensor's shape must not promise more than a file can hold.
fn check_tensor(tensor: &TensorProto) -> Result<(), Cause> {
    let elements = tensor
        .dims
        .iter()
        .try_fold(1_usize, |elements, dimension| elements.checked_mul(usize::try_from(*dimension).ok()?));
    let fits = elements.is_some_and(|elements| elements <= MAX_MODEL_BYTES / BYTES_PER_ELEMENT);
    let is_narrow = tensor.dims.iter().all(|dimension| *dimension <= MAX_LENGTH);
    if fits && is_narrow && tensor.dims.len() <= MAX_DIMENSIONS && tensor.external_data.is_empty() {
        return Ok(());
    }
    Err(format!("tensor {:?} has an impossible shape or lies outside the file", tensor.name).into())
}
