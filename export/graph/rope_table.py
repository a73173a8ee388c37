"""Cosines and sines of the rotary embedding, a row a position, whatever scaling the checkpoint uses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.artifact import ModelSpec
from edge.artifact.rope import base_frequencies, frequencies

Table = NDArray[np.float32]

# Rows that are widened at once: the whole table would be as large as a model's largest tensor.
_ROWS = 1024


def rope_tables(spec: ModelSpec) -> tuple[Table, Table]:
    """(cos, sin), each float32 [context, head_dim / 2], the attention factor multiplied in.

    Angles are float32 products, as in the reference the models were trained with; functions are computed in float64 and
    rounded, so that every computer gives the same table. `dynamic` gives position p the base
    of a sequence of p + 1 tokens, so that a token's angle does not depend on the chunk it came in.
    """
    rope, dim = spec.rope, spec.head_dim
    positions = np.arange(spec.context, dtype=np.float32)
    if rope.kind == "dynamic":
        angles = np.empty((spec.context, dim // 2), np.float32)
        inside = min(rope.original_context, spec.context)
        angles[:inside] = np.outer(positions[:inside], base_frequencies(rope.theta, dim))
        for p in range(inside, spec.context):
            stretch = rope.factor * (p + 1) / rope.original_context - (rope.factor - 1)
            angles[p] = positions[p] * base_frequencies(rope.theta * stretch ** (dim / (dim - 2)), dim)
    else:
        angles = np.outer(positions, frequencies(spec)).astype(np.float32)
    scale = np.float32(rope.attention_factor)
    return _rounded(np.cos, angles) * scale, _rounded(np.sin, angles) * scale


def _rounded(function: np.ufunc, angles: Table) -> Table:
    out = np.empty_like(angles)
    for start in range(0, len(angles), _ROWS):
        rows = slice(start, start + _ROWS)
        out[rows] = function(angles[rows].astype(np.float64))
    return out
