"""Cosines and sines of the rotary embedding, a row a position, whatever scaling the checkpoint uses."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge.artifact import ModelSpec, Rope

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
        angles[:inside] = np.outer(positions[:inside], _frequencies(rope.theta, dim))
        for p in range(inside, spec.context):
            stretch = rope.factor * (p + 1) / rope.original_context - (rope.factor - 1)
            angles[p] = positions[p] * _frequencies(rope.theta * stretch ** (dim / (dim - 2)), dim)
    else:
        angles = np.outer(positions, _scaled(rope, dim)).astype(np.float32)
    scale = np.float32(rope.attention_factor)
    return _rounded(np.cos, angles) * scale, _rounded(np.sin, angles) * scale


def _rounded(function: np.ufunc, angles: Table) -> Table:
    out = np.empty_like(angles)
    for start in range(0, len(angles), _ROWS):
        rows = slice(start, start + _ROWS)
        out[rows] = function(angles[rows].astype(np.float64))
    return out


def _frequencies(theta: float, dim: int) -> Table:
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    return (1.0 / np.power(theta, exponents.astype(np.float64))).astype(np.float32)


def _scaled(rope: Rope, dim: int) -> Table:
    frequencies = _frequencies(rope.theta, dim)
    if rope.kind == "linear":
        return (frequencies / np.float32(rope.factor)).astype(np.float32)
    if rope.kind == "factors":
        return (frequencies / np.asarray(rope.factors, np.float32)).astype(np.float32)
    if rope.kind == "llama3":
        return _llama3(rope, frequencies)
    if rope.kind == "yarn":
        return _yarn(rope, dim, frequencies)
    return frequencies


def _llama3(rope: Rope, frequencies: Table) -> Table:
    """Long wavelengths divided by the factor, short ones kept, a ramp between (Llama 3.1's scaling)."""
    wavelengths = 2 * math.pi / frequencies
    turns = rope.original_context / wavelengths
    ramp = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    ramp = np.clip(ramp, 0.0, 1.0)
    return ((1 - ramp) * frequencies / rope.factor + ramp * frequencies).astype(np.float32)


def _yarn(rope: Rope, dim: int, frequencies: Table) -> Table:
    """Interpolated where a dimension rotates little, kept where it rotates much (arXiv:2309.00071, section 3.2)."""

    def dimension(rotations: float) -> float:
        return dim * math.log(rope.original_context / (rotations * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low), 0.0, 1.0)
    scaled: Table = (frequencies / rope.factor * ramp + frequencies * (1 - ramp)).astype(np.float32)
    return scaled
