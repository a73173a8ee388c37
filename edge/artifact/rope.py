"""The angles of the rotary embedding, whatever scaling the checkpoint uses."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge.artifact.spec import ModelSpec, Rope

Table = NDArray[np.float32]


def turn_by(spec: ModelSpec, positions: int) -> tuple[Table, Table]:
    """(cos, sin), each float32 [head_dim / 2], of what turns a key at any position p to p + `positions`.

    Not for `dynamic`, where an angle is no multiple of the position.
    """
    angles = frequencies(spec).astype(np.float64) * positions
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def base_frequencies(theta: float, dim: int) -> Table:
    """Angle per position of each pair of numbers, float32 [dim / 2], without any scaling."""
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    return (1.0 / np.power(theta, exponents.astype(np.float64))).astype(np.float32)


def frequencies(spec: ModelSpec) -> Table:
    """Angle per position of each pair, float32 [head_dim / 2]; of `dynamic` where it is not stretched yet."""
    rope, dim = spec.rope, spec.head_dim
    plain = base_frequencies(rope.theta, dim)
    if rope.kind == "linear":
        return (plain / np.float32(rope.factor)).astype(np.float32)
    if rope.kind == "factors":
        return (plain / np.asarray(rope.factors, np.float32)).astype(np.float32)
    if rope.kind == "llama3":
        return _llama3(rope, plain)
    if rope.kind == "yarn":
        return _yarn(rope, dim, plain)
    return plain


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
