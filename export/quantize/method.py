"""What a quantization method is: rows of floats in, codes, scales and zero points per block out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from export.quantize.inputs import Inputs
from export.quantize.precision import Precision

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Quantized:
    """Rows in blocks along the input dimension: weight = (code − zero) · scale.

    codes: uint8 [rows, blocks, block]; scales: float32 [rows, blocks]; zeros: uint8 [rows, blocks], or None
    for the middle code 2^(bits − 1) everywhere.
    """

    codes: NDArray[np.uint8]
    scales: Rows
    zeros: NDArray[np.uint8] | None

    def dequantize(self, bits: int) -> Rows:
        """The weights the codes stand for, float32 [rows, blocks · block]."""
        zeros = (
            np.float32(1 << (bits - 1)) if self.zeros is None else self.zeros[..., None].astype(np.float32)
        )
        weights = (self.codes.astype(np.float32) - zeros) * self.scales[..., None]
        rows, blocks, block = self.codes.shape
        return weights.reshape(rows, blocks * block)

    def rows(self, start: int, stop: int) -> Quantized:
        """Rows `start` to `stop`."""
        part = slice(start, stop)
        zeros = None if self.zeros is None else self.zeros[part]
        return Quantized(self.codes[part], self.scales[part], zeros)

    def held(self, own: Precision, precision: Precision) -> Quantized:
        """The same weights in a precision that holds the one of the codes, `own`."""
        middle, before = 1 << (precision.bits - 1), 1 << (own.bits - 1)
        if not precision.zero_points:
            return Quantized(self.codes + np.uint8(middle - before), self.scales, None)
        zeros = np.full(self.scales.shape, before, np.uint8) if self.zeros is None else self.zeros
        return Quantized(self.codes, self.scales, zeros)

    @classmethod
    def joined(cls, parts: Sequence[Quantized]) -> Quantized:
        """The rows of `parts`, quantized alike, below each other."""
        zeros = [part.zeros for part in parts if part.zeros is not None]
        return cls(
            np.concatenate([part.codes for part in parts]),
            np.concatenate([part.scales for part in parts]),
            np.concatenate(zeros) if zeros else None,
        )


class Method(Protocol):
    """A way to choose codes. Rows do not depend on each other; called with a few at a time, from several threads."""

    calibrated: bool
    """Whether it has to know the inputs of a layer."""

    def quantize(self, rows: Rows, precision: Precision, inputs: Inputs | None = None) -> Quantized:
        """Quantize float32 [rows, inputs]; inputs is a multiple of the block.

        Every weight is one that float16 could hold. `inputs` is what the layer was seen to take, as wide as the rows.
        """
