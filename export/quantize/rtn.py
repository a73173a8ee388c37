"""Round to nearest, with the scale of each block that minimises a weighted squared error (`block_scale`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from export.quantize.block_scale import asymmetric_scale, inverse, rounded, symmetric_scale
from export.quantize.inputs import Inputs
from export.quantize.method import Quantized, Rows
from export.quantize.precision import Precision

_CACHE_ELEMENTS = 1 << 16


class RoundToNearest:
    """The method `rtn`; stateless."""

    calibrated = False

    def quantize(self, rows: Rows, precision: Precision, inputs: Inputs | None = None) -> Quantized:
        """See `Method.quantize`; inputs do not matter."""
        return block_by_block(rows, precision, _nearest)


def block_by_block(
    rows: Rows, precision: Precision, choose: Callable[[Rows, Precision], tuple[Rows, Rows, Rows]]
) -> Quantized:
    """Quantize rows whose blocks do not depend on each other.

    `choose` is given blocks side by side, [block, n], and returns codes as floats [block, n], scales and zero points
    [n].
    """
    block = precision.block
    x = rows.reshape(-1, block)
    codes = np.empty(x.shape, np.uint8)
    scales = np.empty(len(x), np.float32)
    zeros = np.empty(len(x), np.uint8)
    # In slices that stay in the processor's cache: many passes, one trip to memory.
    step = max(1, _CACHE_ELEMENTS // block)
    for i in range(0, len(x), step):
        part = slice(i, i + step)
        # NumPy is several times faster across blocks than along one.
        found, scales[part], zeros[part] = choose(np.ascontiguousarray(x[part].T), precision)
        codes[part] = found.T
    shape = len(rows), -1
    return Quantized(
        codes.reshape(*shape, block),
        scales.reshape(shape),
        zeros.reshape(shape) if precision.zero_points else None,
    )


def nearest(rows: Rows, precision: Precision) -> Rows:
    """The weights that `rtn` makes of float32 [rows, inputs]."""
    found = RoundToNearest().quantize(precision.padded(rows), precision).dequantize(precision.bits)
    return found[:, : rows.shape[1]]


def _nearest(x: Rows, precision: Precision) -> tuple[Rows, Rows, Rows]:
    bits = precision.bits
    if precision.zero_points:
        scale, zero = asymmetric_scale(x, bits)
    else:
        scale = symmetric_scale(x, precision)
        zero = np.full_like(scale, 1 << (bits - 1))
    return rounded(x, inverse(scale), -zero, (1 << bits) - 1 - zero) + zero, scale, zero
