"""RMS norm of float16 numbers, as the forms of the portable dialect have it."""

from __future__ import annotations

from onnx import TensorProto

from export.graph.builder import Value
from export.graph.graph import Graph
from export.graph.portable_form import Form


def rms_norm(graph: Graph, form: Form, x: Value, scale: Value, output: Value, epsilon: float) -> Value:
    """The norm along the last axis. Squares are float32 in both forms: float16 ends at those of 256."""
    if form.opset >= 23:
        inputs = [x, scale]
        return graph.node(
            "RMSNormalization", inputs, output, axis=-1, epsilon=epsilon, stash_type=TensorProto.FLOAT
        )
    wide = graph.node("Cast", [x], f"{output}.wide", to=TensorProto.FLOAT)
    square = graph.node("Mul", [wide, wide], f"{output}.square")
    mean = graph.node("ReduceMean", [square, graph.ints("last", [-1])], f"{output}.mean", keepdims=1)
    moved = graph.node("Add", [mean, graph.number(f"epsilon_{epsilon:g}", epsilon)], f"{output}.moved")
    root = graph.node("Sqrt", [moved], f"{output}.root")
    unit = graph.node("Div", [wide, root], f"{output}.unit")
    narrow = graph.node("Cast", [unit], f"{output}.narrow", to=TensorProto.FLOAT16)
    return graph.node("Mul", [narrow, scale], output)
