"""Writes the network as ONNX, by hand: opset 17, symbolic batch, only operators that tract has."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .form import (
    FEATURES,
    HORIZON_STEPS,
    IR_VERSION,
    MEDIAN_INDEX,
    OPSET,
    PEAK_LEVELS,
    PEAK_STEPS,
    QUANTILE_LEVELS,
)
from .network import BLOCKS, LAST, NORM_EPSILON, PEAK_OUTPUTS, STEP_OUTPUTS

INPUTS = {"features": ["batch", FEATURES]}
OUTPUTS = {
    "steps": ["batch", HORIZON_STEPS, len(QUANTILE_LEVELS)],
    "peaks": ["batch", len(PEAK_STEPS), len(PEAK_LEVELS)],
}


class _Graph:
    """Collects nodes and constants; each call returns the name of its output."""

    def __init__(self, parameters: dict[str, np.ndarray]):
        self.nodes: list[onnx.NodeProto] = []
        self.constants = {name: np.asarray(value, np.float32) for name, value in parameters.items()}

    def node(self, operator: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def integers(self, *values: int) -> str:
        name = "int_" + "_".join(str(v).replace("-", "m") for v in values)
        self.constants[name] = np.array(values, np.int64)
        return name

    def slice(self, source: str, start: int, end: int, axis: int, output: str) -> str:
        bounds = [self.integers(start), self.integers(end), self.integers(axis)]
        return self.node("Slice", [source, *bounds], output)

    def gemm(self, source: str, layer: str) -> str:
        return self.node("Gemm", [source, f"{layer}_w", f"{layer}_b"], f"{layer}_out")

    def norm(self, source: str, layer: str) -> str:
        inputs = [source, f"{layer}_g", f"{layer}_b"]
        return self.node("LayerNormalization", inputs, f"{layer}_out", axis=-1, epsilon=NORM_EPSILON)


def _step_head(graph: _Graph, raw: str, last: str) -> None:
    """Median, and gaps summed away from it: the sums are one product with a constant matrix, which engines run faster than CumSum."""
    levels = len(QUANTILE_LEVELS)
    flat = graph.slice(raw, 0, STEP_OUTPUTS, 1, "steps_flat")
    cube = graph.node("Reshape", [flat, graph.integers(0, HORIZON_STEPS, levels)], "steps_raw")
    median = graph.node("Add", [graph.slice(cube, 0, 1, 2, "steps_shift"), last], "steps_median")
    gaps = graph.node("Softplus", [graph.slice(cube, 1, levels, 2, "steps_gaps_raw")], "steps_gaps")
    sums = np.zeros((levels, levels), np.float32)
    sums[0] = 1.0
    for below in range(MEDIAN_INDEX):  # the gap above quantile `below`
        sums[1 + below, : below + 1] = -1.0
    for above in range(MEDIAN_INDEX + 1, levels):
        sums[above, above:] = 1.0
    graph.constants["steps_sums"] = sums
    joined = graph.node("Concat", [median, gaps], "steps_joined", axis=2)
    graph.node("MatMul", [joined, "steps_sums"], "steps")


def _peak_head(graph: _Graph, raw: str, last: str) -> None:
    levels = len(PEAK_LEVELS)
    flat = graph.slice(raw, STEP_OUTPUTS, STEP_OUTPUTS + PEAK_OUTPUTS, 1, "peaks_flat")
    cube = graph.node("Reshape", [flat, graph.integers(0, len(PEAK_STEPS), levels)], "peaks_raw")
    first = graph.node("Add", [graph.slice(cube, 0, 1, 2, "peaks_shift"), last], "peaks_first")
    gaps = graph.node("Softplus", [graph.slice(cube, 1, levels, 2, "peaks_gaps_raw")], "peaks_gaps")
    graph.constants["peaks_sums"] = np.triu(np.ones((levels, levels), np.float32))
    joined = graph.node("Concat", [first, gaps], "peaks_joined", axis=2)
    graph.node("MatMul", [joined, "peaks_sums"], "peaks")


def onnx_model(parameters: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The same function as `network.forward`."""
    graph = _Graph(parameters)
    h = graph.gemm("features", "in")
    for i in range(BLOCKS):
        n = graph.gemm(graph.norm(h, f"b{i}_norm"), f"b{i}_up")
        n = graph.gemm(graph.node("Relu", [n], f"b{i}_relu"), f"b{i}_down")
        h = graph.node("Add", [h, n], f"b{i}_sum")
    raw = graph.gemm(graph.norm(h, "out_norm"), "out")
    last = graph.slice("features", LAST, LAST + 1, 1, "last")
    last = graph.node("Reshape", [last, graph.integers(0, 1, 1)], "last_cube")
    _step_head(graph, raw, last)
    _peak_head(graph, raw, last)

    def values(table):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in table.items()]

    weights = [numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    built = helper.make_graph(graph.nodes, "demand", values(INPUTS), values(OUTPUTS), weights)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(built, opset_imports=opsets, ir_version=IR_VERSION, producer_name="quotary")
    onnx.checker.check_model(model, full_check=True)
    return model
