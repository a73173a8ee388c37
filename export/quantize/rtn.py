"""Round to nearest, with the scale of each block that minimises the squared error.

For a trial scale the codes are the rounded weights, and for fixed codes the best scale is the least-squares one,
Σxq ÷ Σq². A few trial scales around the one that maps the extreme weight to the end of the range are each improved that
way, and the best is kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.quantize.method import Quantized, Rows

# Ratio of trial scale to the one that reaches the extreme weight: below 1 it clips the extreme for finer steps.
_TRIALS = {4: (1.0, 1.06, 0.95, 0.9, 0.85, 0.8, 0.74), 8: (1.0, 0.99)}
_CACHE_ELEMENTS = 1 << 16


class RoundToNearest:
    """The method `rtn`; stateless."""

    def quantize(self, tensor: str, first_row: int, rows: Rows, bits: int, block: int, zero_points: bool) -> Quantized:
        """See `Method.quantize`."""
        x = rows.reshape(-1, block)
        codes = np.empty(x.shape, np.uint8)
        scales = np.empty(len(x), np.float32)
        zeros = np.empty(len(x), np.uint8)
        # In slices that stay in the processor's cache: many passes, one trip to memory.
        step = max(1, _CACHE_ELEMENTS // block)
        for i in range(0, len(x), step):
            part = slice(i, i + step)
            # Blocks side by side: NumPy is several times faster across them than along one.
            across = np.ascontiguousarray(x[part].T)
            if zero_points:
                found, scales[part], zeros[part] = _asymmetric(across, bits)
            else:
                found, scales[part] = _symmetric(across, bits)
            codes[part] = found.T
        shape = len(rows), -1
        return Quantized(
            codes.reshape(*shape, block),
            scales.reshape(shape),
            zeros.reshape(shape) if zero_points else None,
        )


def _symmetric(x: Rows, bits: int) -> tuple[NDArray[np.uint8], Rows]:
    """Codes and scales for blocks x [block, n]; the extreme weight takes the longer, negative end of the range."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    most, least = x.max(axis=0), x.min(axis=0)
    start = np.where(most > -least, most, least) / np.float32(low)
    # The sign of the scale decides which end of the range is the longer one.
    ratios = [*_TRIALS[bits], *(-r for r in _TRIALS[bits] if bits == 4 and r <= 1.0)]
    trials = [(_inverse(start * np.float32(ratio)), None) for ratio in ratios]
    best, scale = _best(x, trials, low, high)
    return (_rounded(x, *best, low, high) - np.float32(low)).astype(np.uint8), scale


def _asymmetric(x: Rows, bits: int) -> tuple[NDArray[np.uint8], Rows, NDArray[np.uint8]]:
    """Codes, scales and zero points for blocks x [block, n]; zero is always a code."""
    top = (1 << bits) - 1
    least, most = np.minimum(x.min(axis=0), 0), np.maximum(x.max(axis=0), 0)
    trials: list[tuple[Rows, Rows | None]] = []
    for ratio in _TRIALS[bits]:
        inverse = _inverse((most - least) * np.float32(ratio / top))
        trials.append((inverse, np.clip(np.rint(-least * np.float32(ratio) * inverse), 0, top)))
    (inverse, zero), scale = _best(x, trials, 0, top)
    assert zero is not None
    codes = _rounded(x, inverse, zero, 0, top) + zero
    return codes.astype(np.uint8), scale, zero.astype(np.uint8)


def _best(
    x: Rows, trials: list[tuple[Rows, Rows | None]], low: int, high: int
) -> tuple[tuple[Rows, Rows | None], Rows]:
    """The trial (inverse scale, zero) of least squared error for each block, and its least-squares scale.

    With that scale the error is Σx² − (Σxq)² ÷ Σq²: the trial that makes the last term largest is the best.
    """
    most = np.full(x.shape[1], -1, np.float32)
    inverse, scale = np.zeros_like(most), np.zeros_like(most)
    zero = None if trials[0][1] is None else np.zeros_like(most)
    buffer = np.empty_like(x)
    for trial_inverse, trial_zero in trials:
        q = _rounded(x, trial_inverse, trial_zero, low, high, buffer)
        xq, qq = np.einsum("kn,kn->n", x, q), np.einsum("kn,kn->n", q, q)
        trial_scale = xq * _inverse(qq)
        gain = xq * trial_scale
        better = gain > most
        np.copyto(most, gain, where=better)
        np.copyto(inverse, trial_inverse, where=better)
        np.copyto(scale, trial_scale, where=better)
        if zero is not None and trial_zero is not None:
            np.copyto(zero, trial_zero, where=better)
    return (inverse, zero), scale


def _rounded(x: Rows, inverse: Rows, zero: Rows | None, low: int, high: int, out: Rows | None = None) -> Rows:
    """Codes less their zero point, as floats."""
    q = np.multiply(x, inverse, out=out)
    np.rint(q, out=q)
    if zero is None:
        return np.clip(q, low, high, out=q)
    return np.clip(q, low - zero, high - zero, out=q)


def _inverse(x: Rows) -> Rows:
    """1/x, and 0 where x is too small to divide by: such a block is all zero."""
    tiny = np.abs(x) < np.finfo(np.float32).tiny
    return np.where(tiny, np.float32(0), np.float32(1) / np.where(tiny, np.float32(1), x))
