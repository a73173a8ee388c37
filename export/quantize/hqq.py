"""HQQ (Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models"): zero points that leave
few large errors, found without inputs.

Errors e are split off by minimising |e|^p + β/2·(x − q − e)² in turn over e, by a shrinkage, and over the zero points,
whose best value is a mean. A zero point is a code here, so that the mean is rounded; scales stay those of `rtn`.
"""

from __future__ import annotations

import numpy as np

from export.quantize.block_scale import asymmetric_scale, inverse, rounded
from export.quantize.inputs import Inputs
from export.quantize.method import Quantized, Rows
from export.quantize.precision import Precision
from export.quantize.rtn import RoundToNearest, block_by_block

# As in the paper: p of the norm, and β and its growth.
_NORM, _BETA, _GROWTH, _STEPS = 0.7, 10.0, 1.01, 20


class Hqq:
    """The method `hqq`; stateless. Without zero points it is `rtn`."""

    calibrated = False

    def quantize(self, rows: Rows, precision: Precision, inputs: Inputs | None = None) -> Quantized:
        """See `Method.quantize`; inputs do not matter."""
        if not precision.zero_points:
            return RoundToNearest().quantize(rows, precision)
        return block_by_block(rows, precision, _few_large_errors)


def _few_large_errors(x: Rows, precision: Precision) -> tuple[Rows, Rows, Rows]:
    scale, start = asymmetric_scale(x, precision.bits)
    zero, codes = _best_zero(x, scale, start, precision.bits)
    return codes, scale, zero


def _best_zero(x: Rows, scale: Rows, zero: Rows, bits: int) -> tuple[Rows, Rows]:
    """Zero points [n] and codes [block, n] of blocks x [block, n], of all steps those with the least |error|^p."""
    top, factor, beta = (1 << bits) - 1, inverse(scale), np.float32(_BETA)
    least = np.full(x.shape[1], np.inf, np.float32)
    best, codes = zero.copy(), np.empty_like(x)
    size = np.abs(x).max(axis=0)
    relative = inverse(size)
    for _ in range(_STEPS):
        q = rounded(x, factor, -zero, top - zero)
        # In parts of the block's largest weight, so that β means the same for every block.
        error = (x - q * scale) * relative
        norm = (np.abs(error) ** np.float32(_NORM)).sum(axis=0)
        better = norm < least
        least = np.where(better, norm, least)
        best = np.where(better, zero, best)
        np.copyto(codes, q + zero, where=better)
        magnitude = np.maximum(np.abs(error), np.float32(1e-8))
        shrunk = np.sign(error) * np.maximum(magnitude - magnitude ** np.float32(_NORM - 1) / beta, 0)
        target = (x - shrunk * size) * factor
        zero = np.clip(np.rint((q + zero - target).mean(axis=0)), 0, top)
        beta = np.float32(beta * _GROWTH)
    return best, codes
