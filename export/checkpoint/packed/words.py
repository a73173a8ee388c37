"""Codes out of the 32-bit words that checkpoints pack them into."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]

WORD_BITS = 32


def words_for(count: int, bits: int) -> int:
    """Words that hold `count` codes."""
    return -(-count * bits // WORD_BITS)


def unpacked(words: NDArray[Any], bits: int) -> Codes:
    """Codes of int32 words [..., n], from each word's lowest bits up: uint8 [..., n · 32 ÷ bits].

    `bits` is 4 or 8.
    """
    data = np.ascontiguousarray(words, dtype="<i4").view(np.uint8)
    if bits == 8:
        return data
    codes = np.empty((*data.shape[:-1], data.shape[-1], 2), np.uint8)
    codes[..., 0], codes[..., 1] = data & 15, data >> 4
    return codes.reshape(*data.shape[:-1], -1)
