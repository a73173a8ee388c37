"""Round to nearest, with the scale of each block that minimises a weighted squared error.

Large weights count for more: w is |x| plus the block's root mean square, as in llama.cpp. Predictions are then nearer
to the source's, though Σ(x − q·s)² is a little larger. For a trial scale the codes are the rounded weights, and for
fixed codes the best scale is the least-squares one, Σwxq ÷ Σwq². A few trial scales around the one that maps the
extreme weight to the end of the range are each improved that way and rounded to bfloat16, the best is kept and improved
once more, and the weights are rounded with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from export.quantize.bfloat16 import round_bfloat16
from export.quantize.method import Quantized, Rows

Limit = Rows | int

# Trial scale ÷ the one that reaches the extreme weight: below 1 it clips the extreme for finer steps.
# With 8 bits a step of bfloat16, 1/256 to 1/128, is as far as the trials need to be apart.
_TRIALS = {
    4: (1.0, 1.06, 0.95, 0.9, 0.85, 0.8, 0.74),
    8: (1.0, 0.996, 0.992, 0.988, 0.984, 0.98, 0.976, 0.972, 1.004, 1.008, 1.012, 1.016),
}
_CACHE_ELEMENTS = 1 << 16


class RoundToNearest:
    """The method `rtn`; stateless."""

    def quantize(
        self, tensor: str, first_row: int, rows: Rows, bits: int, block: int, zero_points: bool
    ) -> Quantized:
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
    """Codes and scales for blocks x [block, n]; either end of x may take the longer, negative side."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    most, least = x.max(axis=0), x.min(axis=0)
    start = np.where(most > -least, most, least) / np.float32(low)
    # The first takes the extreme to both ends alike, as an absolute-maximum scale does.
    ratios = [-low / high, *_TRIALS[bits]]
    if bits == 4:
        # The sign of the scale decides which end of the range is the longer one.
        ratios += [-ratio for ratio in _TRIALS[bits] if ratio <= 1.0]
    scale = _best_scale(x, start, ratios, low, high)
    codes = _rounded(x, _inverse(scale), low, high) - np.float32(low)
    return codes.astype(np.uint8), scale


def _asymmetric(x: Rows, bits: int) -> tuple[NDArray[np.uint8], Rows, NDArray[np.uint8]]:
    """Codes, scales and zero points for blocks x [block, n]; zero is always a code."""
    top = (1 << bits) - 1
    least, most = np.minimum(x.min(axis=0), 0), np.maximum(x.max(axis=0), 0)
    start = (most - least) / np.float32(top)
    zero = np.clip(np.rint(-least * _inverse(start)), 0, top)
    scale = _best_scale(x, start, _TRIALS[bits], -zero, top - zero)
    codes = _rounded(x, _inverse(scale), -zero, top - zero) + zero
    return codes.astype(np.uint8), scale, zero.astype(np.uint8)


def _best_scale(x: Rows, start: Rows, ratios: Sequence[float], low: Limit, high: Limit) -> Rows:
    """The least-squares scale [n], as bfloat16, of whichever trial scale leaves a block the least error.

    Trials are start · ratio, and last the best of them. With scale s and codes q the error is
    Σwx² − (2Σwxq − s·Σwq²)·s: the trial that makes the last term largest is the best.
    """
    importance = np.abs(x)
    # Divided first: squares of small weights are no float32.
    largest = importance.max(axis=0)
    relative = x * _inverse(largest)
    importance += largest * np.sqrt(np.einsum("kn,kn->n", relative, relative) / np.float32(len(x)))
    # Of any size alike, so that neither they nor the sums are too small or too large for float32.
    importance *= _inverse(largest)
    weighted = importance * x
    most = np.full(x.shape[1], -1, np.float32)
    best = np.zeros_like(most)
    buffer = np.empty_like(x)
    for ratio in (*ratios, None):
        trial = best if ratio is None else start * np.float32(ratio)
        q = _rounded(x, _inverse(trial), low, high, buffer)
        xq, qq = np.einsum("kn,kn->n", weighted, q), np.einsum("kn,kn,kn->n", importance, q, q)
        scale = round_bfloat16(xq * _inverse(qq))
        gain = (2 * xq - qq * scale) * scale
        better = gain > most
        np.copyto(most, gain, where=better)
        np.copyto(best, scale, where=better)
    return best


def _rounded(x: Rows, inverse: Rows, low: Limit, high: Limit, out: Rows | None = None) -> Rows:
    """Codes less their zero point, as floats."""
    q = np.multiply(x, inverse, out=out)
    np.rint(q, out=q)
    return np.clip(q, low, high, out=q)


def _inverse(x: Rows) -> Rows:
    """1/x, and 0 where x is too small to divide by: such a block is all zero."""
    tiny = np.abs(x) < np.finfo(np.float32).tiny
    return np.where(tiny, np.float32(0), np.float32(1) / np.where(tiny, np.float32(1), x))
