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

    def scalar(self, value: int) -> str:
        self.constants[f"scalar_{value}"] = np.array(value, np.int64)
        return f"scalar_{value}"

    def slice(self, source: str, start: int, end: int, axis: int, output: str) -> str:
        bounds = [self.integers(start), self.integers(end), self.integers(axis)]
        return self.node("Slice", [source, *bounds], output)

    def gemm(self, source: str, layer: str) -> str:
        return self.node("Gemm", [source, f"{layer}_w", f"{layer}_b"], f"{layer}_out")

    def norm(self, source: str, layer: str) -> str:
        inputs = [source, f"{layer}_g", f"{layer}_b"]
        return self.node("LayerNormalization", inputs, f"{layer}_out", axis=-1, epsilon=NORM_EPSILON)


def _step_head(graph: _Graph, raw: str, last: str) -> None:
    levels = len(QUANTILE_LEVELS)
    flat = graph.slice(raw, 0, STEP_OUTPUTS, 1, "steps_flat")
    cube = graph.node("Reshape", [flat, graph.integers(0, HORIZON_STEPS, levels)], "steps_raw")
    median = graph.node("Add", [graph.slice(cube, 0, 1, 2, "steps_shift"), last], "steps_median")
    below = graph.node("Softplus", [graph.slice(cube, 1, 1 + MEDIAN_INDEX, 2, "steps_below_raw")], "steps_below_gaps")
    above = graph.node("Softplus", [graph.slice(cube, 1 + MEDIAN_INDEX, levels, 2, "steps_above_raw")], "steps_above_gaps")
    axis = graph.scalar(2)
    below = graph.node("CumSum", [below, axis], "steps_below_sum", reverse=1)
    above = graph.node("CumSum", [above, axis], "steps_above_sum")
    lower = graph.node("Sub", [median, below], "steps_lower")
    upper = graph.node("Add", [median, above], "steps_upper")
    graph.node("Concat", [lower, median, upper], "steps", axis=2)


def _peak_head(graph: _Graph, raw: str, last: str) -> None:
    levels = len(PEAK_LEVELS)
    flat = graph.slice(raw, STEP_OUTPUTS, STEP_OUTPUTS + PEAK_OUTPUTS, 1, "peaks_flat")
    cube = graph.node("Reshape", [flat, graph.integers(0, len(PEAK_STEPS), levels)], "peaks_raw")
    first = graph.node("Add", [graph.slice(cube, 0, 1, 2, "peaks_shift"), last], "peaks_first")
    gaps = graph.node("Softplus", [graph.slice(cube, 1, levels, 2, "peaks_gaps_raw")], "peaks_gaps")
    joined = graph.node("Concat", [first, gaps], "peaks_joined", axis=2)
    graph.node("CumSum", [joined, graph.scalar(2)], "peaks")


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
