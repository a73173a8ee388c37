"""GPTQ (Frantar et al. 2022, arXiv:2210.17323): the error of each weight is made up for by those not yet rounded.

Inputs are taken the strongest first, which matters as much as the feedback itself, but block by block of the layout, so
that there is nothing to look up when the matrix is used: blocks by their mean strength, inputs by theirs inside. The
scale of a block is chosen when its turn comes, for the weights as they are then, each weighed by what its error will
cost: a quarter less error of outputs than with plain squares on SmolLM2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.quantize.block_scale import asymmetric_scale, inverse, rounded, symmetric_scale
from export.quantize.inputs import Inputs
from export.quantize.method import Quantized, Rows
from export.quantize.precision import Precision

# Inputs whose errors reach the rest in one product.
_STRETCH = 128
# Rows that are worked at together: their weights stay in the processor's cache for a stretch.
ROWS = 1024


class Gptq:
    """The method `gptq`; stateless."""

    calibrated = True

    def quantize(self, rows: Rows, precision: Precision, inputs: Inputs | None = None) -> Quantized:
        """See `Method.quantize`; inputs have to be known."""
        assert inputs is not None
        block = precision.block
        order, feedback = inputs.order(block), inputs.feedback(block)
        blocks = rows.shape[1] // block
        codes = np.empty((len(rows), blocks * block), np.uint8)
        scales = np.empty((len(rows), blocks), np.float32)
        zeros = np.empty((len(rows), blocks), np.uint8)
        for start in range(0, len(rows), ROWS):
            part = slice(start, start + ROWS)
            # Inputs first: a column of weights is one stretch of memory.
            across = np.ascontiguousarray(rows[part].T[order])
            found, scale, zero = _quantized(across, feedback, precision)
            codes[part, order] = found.T
            places = order[::block] // block
            scales[part, places], zeros[part, places] = scale.T, zero.T
        return Quantized(
            codes.reshape(len(rows), blocks, block), scales, zeros if precision.zero_points else None
        )


def _quantized(
    x: Rows, feedback: Rows, precision: Precision
) -> tuple[NDArray[np.uint8], Rows, NDArray[np.uint8]]:
    """Codes [inputs, n], scales and zero points [blocks, n] of weights x [inputs, n], which are used up."""
    inputs, n = x.shape
    bits, block = precision.bits, precision.block
    codes = np.empty(x.shape, np.uint8)
    scales = np.empty((inputs // block, n), np.float32)
    zeros = np.full((inputs // block, n), 1 << (bits - 1), np.uint8)
    diagonal = np.diag(feedback)
    stretch = max(block, _STRETCH)
    for first in range(0, inputs, stretch):
        last = min(first + stretch, inputs)
        errors = np.empty((last - first, n), np.float32)
        for start in range(first, last, block):
            stop, at = start + block, start // block
            within = diagonal[start:stop, None]
            cost = np.asarray(np.square(within.min() / within), np.float32)
            if precision.zero_points:
                scales[at], zeros[at] = asymmetric_scale(x[start:stop], bits, cost)
            else:
                scales[at] = symmetric_scale(x[start:stop], precision, cost)
            zero, factor = zeros[at].astype(np.float32), inverse(scales[at])
            for i in range(start, stop):
                q = rounded(x[i], factor, -zero, (1 << bits) - 1 - zero)
                codes[i] = q + zero
                error = (x[i] - q * scales[at]) / diagonal[i]
                errors[i - first] = error
                x[i + 1 : stop] -= feedback[i, i + 1 : stop, None] * error
            x[stop:last] -= feedback[start:stop, stop:last].T @ errors[start - first : stop - first]
        x[last:] -= feedback[first:last, last:].T @ errors
    return codes, scales, zeros
