"""The scale, and zero point, of a block of weights that leaves the least weighted squared error.

For a trial scale the codes are the rounded weights, and for fixed codes the best scale is the least-squares one,
Σwxq ÷ Σwq². A few trial scales around the one that maps the extreme weight to the end of the range are each improved
that way and rounded to float16, and the best is kept and improved once more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from export.quantize.float16 import round_float16
from export.quantize.precision import Precision

Rows = NDArray[np.float32]
Limit = Rows | int

# Trial scale ÷ the one that reaches the extreme weight: below 1 it clips the extreme for finer steps.
# With 5 and 6 bits those eight of a grid of hundredths that together leave the least error. With 8 bits they
# stand 1/256 apart.
_TRIALS = {
    4: (1.0, 1.06, 0.95, 0.9, 0.85, 0.8, 0.74),
    5: (1.0, 0.99, 1.01, 0.97, 1.05, 0.95, 1.09, 1.02),
    6: (1.0, 1.06, 0.99, 1.1, 1.01, 1.07, 1.02, 1.04),
    8: (1.0, 0.996, 0.992, 0.988, 0.984, 0.98, 0.976, 0.972, 1.004, 1.008, 1.012, 1.016),
}


def symmetric_scale(x: Rows, precision: Precision, importance: Rows | None = None) -> Rows:
    """Scales float32 [n], values of float16, for blocks x [block, n]; above 0 where `precision` says so.

    Otherwise they may be negative, so that either end of x takes the longer, negative side of the range. That saves 10
    to 15% of the squared error in 4 bits. With 8 bits it would be 0.8%, and scales are above 0 for every engine.

    `importance` float32 [block, 1] weighs errors; None weighs a weight by its size, see `_by_size`.
    """
    bits = precision.bits
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    positive = precision.positive or bits == 8
    most, least = x.max(axis=0), x.min(axis=0)
    start = np.maximum(most, -least) if positive else np.where(most > -least, -most, -least)
    start = start / np.float32(-low)
    # The first takes the extreme to both ends alike, as an absolute-maximum scale does.
    ratios = [-low / high, *_TRIALS[bits]]
    if bits <= 5 and not positive:
        # The sign of the scale decides which end of the range is the longer one.
        ratios += [-ratio for ratio in _TRIALS[bits] if ratio <= 1.0]
    return _best_scale(x, start, ratios, low, high, importance)


def asymmetric_scale(x: Rows, bits: int, importance: Rows | None = None) -> tuple[Rows, Rows]:
    """As `symmetric_scale`, and zero points float32 [n]; zero is always a code."""
    top = (1 << bits) - 1
    least, most = np.minimum(x.min(axis=0), 0), np.maximum(x.max(axis=0), 0)
    start = (most - least) / np.float32(top)
    zero = np.clip(np.rint(-least * inverse(start)), 0, top)
    return _best_scale(x, start, _TRIALS[bits], -zero, top - zero, importance), zero


def _best_scale(
    x: Rows, start: Rows, ratios: Sequence[float], low: Limit, high: Limit, importance: Rows | None
) -> Rows:
    """The least-squares scale [n], as float16, of whichever trial scale leaves a block the least error.

    Trials are start · ratio, and last the best of them. With scale s and codes q the error is
    Σwx² − (2Σwxq − s·Σwq²)·s: the trial that makes the last term largest is the best.
    """
    weights = _by_size(x) if importance is None else np.broadcast_to(importance, x.shape)
    weighted = weights * x
    most = np.full(x.shape[1], -1, np.float32)
    best = np.zeros_like(most)
    buffer = np.empty_like(x)
    for ratio in (*ratios, None):
        trial = best if ratio is None else start * np.float32(ratio)
        q = rounded(x, inverse(trial), low, high, buffer)
        xq, qq = np.einsum("kn,kn->n", weighted, q), np.einsum("kn,kn,kn->n", weights, q, q)
        scale = round_float16(xq * inverse(qq))
        gain = (2 * xq - qq * scale) * scale
        better = gain > most
        np.copyto(most, gain, where=better)
        np.copyto(best, scale, where=better)
    return best


def _by_size(x: Rows) -> Rows:
    """|x| plus the block's root mean square, as in llama.cpp: large weights count for more. Where inputs are not known,
    predictions are then nearer to the source's, though Σ(x − q·s)² is a little larger.
    """
    weights = np.abs(x)
    # Divided first: squares of small weights are no float32.
    largest = weights.max(axis=0)
    relative = x * inverse(largest)
    weights += largest * np.sqrt(np.einsum("kn,kn->n", relative, relative) / np.float32(len(x)))
    # Of any size alike, so that neither they nor the sums are too small or too large for float32.
    weights *= inverse(largest)
    return weights


def rounded(x: Rows, factor: Rows, low: Limit, high: Limit, out: Rows | None = None) -> Rows:
    """Codes less their zero point, as floats, of x times the inverse of its scale."""
    q = np.multiply(x, factor, out=out)
    np.rint(q, out=q)
    return np.clip(q, low, high, out=q)


def inverse(x: Rows) -> Rows:
    """1/x, and 0 where x is too small to divide by: such a block is all zero."""
    tiny = np.abs(x) < np.finfo(np.float32).tiny
    return np.where(tiny, np.float32(0), np.float32(1) / np.where(tiny, np.float32(1), x))
