"""Round to nearest, with the scale of each block that minimises the squared error.

For a trial scale the codes are the rounded weights, and for fixed codes the best scale is the least-squares one,
Σxq ÷ Σq². A few trial scales around the one that maps the extreme weight to the end of the range are each improved that
way, and the best is kept.
"""

from __future__ import annotations

import numpy as np

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
            if zero_points:
                codes[part], scales[part], zeros[part] = _asymmetric(x[part], bits)
            else:
                codes[part], scales[part] = _symmetric(x[part], bits)
        shape = len(rows), -1
        return Quantized(
            codes.reshape(*shape, block),
            scales.reshape(shape),
            zeros.reshape(shape) if zero_points else None,
        )


def _symmetric(x: Rows, bits: int) -> tuple[np.ndarray, Rows]:
    """Codes and scales for blocks x [n, block]; the extreme weight takes the longer, negative end of the range."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    extreme = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)[:, 0]
    start = extreme / np.float32(low)
    best_error = np.full(len(x), np.inf, np.float32)
    best_scale, best = start.copy(), np.zeros(x.shape, np.float32)
    # The two signs of the scale decide which end of the range is the longer one.
    for ratio in _TRIALS[bits]:
        for sign in (1, -1) if bits == 4 and ratio <= 1.0 else (1,):
            scale = start * np.float32(ratio * sign)
            q = np.clip(np.rint(x * _inverse(scale)[:, None]), low, high)
            xq, qq = np.einsum("nk,nk->n", x, q), np.einsum("nk,nk->n", q, q)
            scale = xq * _inverse(qq)
            # Error of the least-squares scale, less the constant Σx².
            error = -xq * scale
            better = error < best_error
            best_error = np.where(better, error, best_error)
            best_scale = np.where(better, scale, best_scale)
            best[better] = q[better]
    return (best - low).astype(np.uint8), best_scale


def _asymmetric(x: Rows, bits: int) -> tuple[np.ndarray, Rows, np.ndarray]:
    """Codes, scales and zero points for blocks x [n, block]; zero is always a code."""
    top = (1 << bits) - 1
    least, most = np.minimum(x.min(axis=1), 0), np.maximum(x.max(axis=1), 0)
    best_error = np.full(len(x), np.inf, np.float32)
    best_scale, best_zero, best = np.zeros_like(least), np.zeros_like(least), np.zeros(x.shape, np.float32)
    for ratio in _TRIALS[bits]:
        scale = (most - least) * np.float32(ratio / top)
        zero = np.clip(np.rint(-least * np.float32(ratio) * _inverse(scale)), 0, top)
        q = np.clip(np.rint(x * _inverse(scale)[:, None] + zero[:, None]), 0, top) - zero[:, None]
        xq, qq = np.einsum("nk,nk->n", x, q), np.einsum("nk,nk->n", q, q)
        scale = xq * _inverse(qq)
        error = -xq * scale
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
        best_zero = np.where(better, zero, best_zero)
        best[better] = q[better]
    return (best + best_zero[:, None]).astype(np.uint8), best_scale, best_zero.astype(np.uint8)


def _inverse(x: Rows) -> Rows:
    """1/x, and 0 where x is too small to divide by: such a block is all zero."""
    tiny = np.abs(x) < np.finfo(np.float32).tiny
    return np.where(tiny, np.float32(0), np.float32(1) / np.where(tiny, np.float32(1), x))
