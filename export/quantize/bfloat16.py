"""bfloat16, the type of scales: float32 values whose lower half is zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.quantize.method import Rows

_HALF, _UPPER = np.uint32(0x7FFF), np.uint32(0xFFFF0000)


def round_bfloat16(x: Rows) -> Rows:
    """The nearest values that bfloat16 holds, ties to even; `x` is finite and far from the largest float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + _HALF + even) & _UPPER).view(np.float32)


def bfloat16_bits(x: Rows) -> NDArray[np.uint16]:
    """Values that bfloat16 holds, as its bits."""
    return (np.ascontiguousarray(x, np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def from_bfloat16_bits(bits: NDArray[np.uint16]) -> Rows:
    """The values of bfloat16 bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
