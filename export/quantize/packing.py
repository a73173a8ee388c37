"""The byte layout of quantized weights that ONNX Runtime's MatMulNBits and GatherBlockQuantized read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def pack(codes: Bytes, bits: int) -> Bytes:
    """uint8 codes [..., n] to bytes [..., n · bits / 8]: 4-bit codes in pairs, the first in the low nibble.

    An odd number of 4-bit codes is filled up with a zero.
    """
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    return codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))


def unpack(data: Bytes, bits: int, count: int) -> Bytes:
    """The first `count` codes [..., count] of what `pack` gave."""
    if bits == 8:
        return data[..., :count]
    pairs = np.stack([data & np.uint8(15), data >> np.uint8(4)], axis=-1)
    return pairs.reshape(*data.shape[:-1], -1)[..., :count]
