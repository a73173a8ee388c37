"""A graph of the portable dialect for a cache of one size: engines that are built ahead want it as a number."""

from __future__ import annotations

import onnx

from edge.errors import InvalidArgument
from export.graph.portable_tables import COS, SIN


def with_capacity(model: onnx.ModelProto, capacity: int) -> onnx.ModelProto:
    """A copy of `model` whose cache holds `capacity` tokens; the tables of its rotary embedding end there as well.

    Raises:
        InvalidArgument: the model's context has no `capacity` tokens.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for tensor in fixed.graph.initializer:
        if tensor.name in (COS, SIN):
            _cut(tensor, capacity)
    for info in (*fixed.graph.input, *fixed.graph.output):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param == "capacity":
                dim.dim_value = capacity
    return fixed


def _cut(table: onnx.TensorProto, rows: int) -> None:
    """Leave the first `rows` rows of a table in the weights file."""
    context = table.dims[0]
    if not 1 <= rows <= context:
        raise InvalidArgument(f"capacity is {rows}; this model takes from 1 to {context} tokens")
    for entry in table.external_data:
        if entry.key == "length":
            entry.value = str(int(entry.value) // context * rows)
    table.dims[0] = rows
