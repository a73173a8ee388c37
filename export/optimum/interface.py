"""What a graph takes and gives, for the manifest."""

from __future__ import annotations

import onnx

from edge.artifact import GraphEntry, GraphTensor
from edge.artifact.graphs import TENSOR_TYPES
from edge.errors import Unsupported


def graph_entry(name: str, file: str, graph: onnx.GraphProto) -> GraphEntry:
    """The entry of a graph in the file `file` of an artifact.

    Raises:
        Unsupported: an input or output that is no tensor of numbers.
    """
    return GraphEntry(
        name=name,
        model=file,
        inputs=tuple(_tensor(name, value) for value in graph.input),
        outputs=tuple(_tensor(name, value) for value in graph.output),
    )


def _tensor(graph: str, value: onnx.ValueInfoProto) -> GraphTensor:
    kind = value.type.tensor_type
    try:
        name = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError:
        name = "no tensor"
    if name not in TENSOR_TYPES:
        raise Unsupported(
            f"graph {graph}: {value.name} is of type {name}; only tensors of {', '.join(TENSOR_TYPES)} are taken"
        )
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}.{i}"
        for i, dim in enumerate(kind.shape.dim)
    )
    return GraphTensor(name=value.name, type=name, shape=shape)
