"""Whole tensors of a source: those of one layer at a time."""

from __future__ import annotations

import numpy as np

from edge.artifact import ModelSpec
from export.architecture.expected import expected_tensors
from export.graph.weight_source import WeightSource
from export.quantize.method import Rows


def layer_arrays(spec: ModelSpec, source: WeightSource, layer: int) -> dict[str, Rows]:
    """Every tensor of a layer, float32, by name."""
    mine = [name for name in expected_tensors(spec) if name.startswith(f"model.layers.{layer}.")]
    return {name: whole(source, name) for name in mine}


def whole(source: WeightSource, name: str) -> Rows:
    """A tensor of `source`, float32."""
    if len(source.shape(name)) == 1:
        return source.vector(name)
    matrix, start = np.empty(source.shape(name), np.float32), 0
    for rows in source.floats(name):
        matrix[start : start + len(rows)] = rows
        start += len(rows)
    return matrix
