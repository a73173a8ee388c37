"""Round to nearest, with the scale of each block that minimises a weighted squared error (`block_scale`)."""

from __future__ import annotations

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
        block, bits = precision.block, precision.bits
        x = rows.reshape(-1, block)
        codes = np.empty(x.shape, np.uint8)
        scales = np.empty(len(x), np.float32)
        zeros = np.full(len(x), 1 << (bits - 1), np.uint8)
        # In slices that stay in the processor's cache: many passes, one trip to memory.
        step = max(1, _CACHE_ELEMENTS // block)
        for i in range(0, len(x), step):
            part = slice(i, i + step)
            # Blocks side by side: NumPy is several times faster across them than along one.
            across = np.ascontiguousarray(x[part].T)
            if precision.zero_points:
                scales[part], zeros[part] = asymmetric_scale(across, bits)
            else:
                scales[part] = symmetric_scale(across, bits)
            zero = zeros[part].astype(np.float32)
            q = rounded(across, inverse(scales[part]), -zero, (1 << bits) - 1 - zero)
            codes[part] = (q + zero).T
        shape = len(rows), -1
        return Quantized(
            codes.reshape(*shape, block),
            scales.reshape(shape),
            zeros.reshape(shape) if precision.zero_points else None,
        )
