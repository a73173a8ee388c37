"""Descent: codes and scales that are there already, each improved in turn with the others held fixed.

Coordinate descent over codes is QuantEase (Behdin et al. 2023, arXiv:2309.01885); scales are improved the same way,
each to its least-squares value given all the others. The error of outputs, with damping, never grows.
"""

from __future__ import annotations

import numpy as np

from export.quantize.block_scale import inverse
from export.quantize.float16 import round_float16
from export.quantize.gptq import ROWS, Gptq
from export.quantize.inputs import Inputs
from export.quantize.method import Quantized, Rows
from export.quantize.precision import Precision

_PASSES = 2


class GptqDescent:
    """The method `gptq+descent`: `gptq`, and descent from there; stateless."""

    calibrated = True

    def quantize(self, rows: Rows, precision: Precision, inputs: Inputs | None = None) -> Quantized:
        """See `Method.quantize`; inputs have to be known."""
        assert inputs is not None
        found = Gptq().quantize(rows, precision, inputs)
        moments = inputs.damped.astype(np.float32)
        for start in range(0, len(rows), ROWS):
            part = slice(start, start + ROWS)
            _descend(rows[part], found.rows(start, start + ROWS), moments, precision)
        return found


def _descend(weights: Rows, q: Quantized, moments: Rows, precision: Precision) -> None:
    """Improve `q` in place."""
    rows, blocks, block = q.codes.shape
    bits = precision.bits
    zeros = np.full((rows, blocks), 1 << (bits - 1), np.uint8) if q.zeros is None else q.zeros
    low = -zeros.T.astype(np.float32)
    high = low + ((1 << bits) - 1)
    # Inputs first, as in gptq: codes less zero points, scales, and what all errors together pull at each weight.
    codes = q.codes.reshape(rows, -1).T.astype(np.float32) + np.repeat(low, block, axis=0)
    scales = np.ascontiguousarray(q.scales.T)
    pull = moments @ (np.ascontiguousarray(weights.T) - codes * np.repeat(scales, block, axis=0))
    for _ in range(_PASSES):
        for at in range(blocks):
            part = slice(at * block, (at + 1) * block)
            before = codes[part] * scales[at]
            here, inside = pull[part], moments[part, part]
            factor = inverse(scales[at])
            for i in range(block):
                better = codes[part][i] + here[i] / inside[i, i] * factor
                step = np.clip(np.rint(better), low[at], high[at]) - codes[part][i]
                codes[part][i] += step
                here -= inside[:, i, None] * (step * scales[at])
            c = codes[part]
            weight = np.einsum("kn,kn->n", inside @ c, c)
            new = round_float16(scales[at] + np.einsum("kn,kn->n", c, here) * inverse(weight))
            here -= (inside @ c) * (new - scales[at])
            scales[at] = new
            change = codes[part] * new - before
            pull[: part.start] -= moments[: part.start, part] @ change
            pull[part.stop :] -= moments[part.stop :, part] @ change
    q.codes[:] = (codes - np.repeat(low, block, axis=0)).T.reshape(q.codes.shape)
    q.scales[:] = scales.T
