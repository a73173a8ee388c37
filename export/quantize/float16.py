"""float16, the type of scales: what GGUF's, GPTQ's and AWQ's have, so that theirs can be kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.quantize.method import Rows

LARGEST = 65504.0


def round_float16(x: Rows) -> Rows:
    """The nearest values that float16 holds, ties to even; of what is larger than all of them the largest."""
    return np.clip(x, -LARGEST, LARGEST).astype(np.float16).astype(np.float32)


def float16_bits(x: Rows) -> NDArray[np.uint16]:
    """Values that float16 holds, as its bits."""
    return x.astype(np.float16).view(np.uint16)


def from_float16_bits(bits: NDArray[np.uint16]) -> Rows:
    """The values of float16 bits."""
    return bits.view(np.float16).astype(np.float32)
