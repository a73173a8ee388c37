"""The index of a weights file: where each tensor is, for an engine that maps the file itself."""

from __future__ import annotations

import json

import onnx

NAME = "weights.json"


def weights_index(graph: onnx.GraphProto) -> str:
    """A JSON list with the name, type, shape, offset and length in bytes of each initializer in the weights file."""
    return "[\n" + ",\n".join(json.dumps(_entry(t)) for t in graph.initializer if t.external_data) + "\n]\n"


def _entry(tensor: onnx.TensorProto) -> dict[str, object]:
    place = {entry.key: entry.value for entry in tensor.external_data}
    return {
        "name": tensor.name,
        "type": onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name,
        "shape": list(tensor.dims),
        "offset": int(place["offset"]),
        "length": int(place["length"]),
    }
