"""How many dimensions the values of a graph have."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

# Of an initializer that may be a shape or an axis: ranks follow from its values.
_SMALL = 1024


def ranks(model: onnx.ModelProto) -> dict[str, int]:
    """Ranks of values of the main graph, where they can be told without the weights."""
    light = _without_weights(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(light)
    except Exception:
        # The graph itself says what it must; ONNX Runtime has the last word.
        inferred = light
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in values
        if value.type.tensor_type.HasField("shape")
    }


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large initializers as inputs."""
    graph = model.graph
    small: list[TensorProto] = []
    large: list[TensorProto] = []
    for tensor in graph.initializer:
        inside = tensor.data_location != TensorProto.EXTERNAL and tensor.ByteSize() <= _SMALL
        (small if inside else large).append(tensor)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in large]
    light = helper.make_graph(graph.node, "light", inputs, graph.output, initializer=small)
    return helper.make_model(light, opset_imports=model.opset_import, ir_version=model.ir_version)
