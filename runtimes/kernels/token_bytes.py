"""The bytes of single tokens in the pages of a pool, to be taken out and put back.

A token's bytes are its keys, their scales, its values and their scales. Where a byte of the page holds two tokens'
4-bit values, each value is taken out as a byte of its own. See `runtimes/kernels/src/pages.h`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from edge.artifact.pages import PAGE_TOKENS, SCALE_GROUP, head_page_bytes
from runtimes.kernels.pool import Bytes

Index = NDArray[np.intp]

_PANEL = 16
_LINE = 64


class TokenBytes:
    """Of one KV head of one layer, for KV of `kind` with keys and values of `dim` numbers."""

    def __init__(self, kind: str, dim: int) -> None:
        self._dim = dim
        self._values: Index | None = None
        if kind in ("float32", "float16"):
            self._whole = _of_floats(dim, 4 if kind == "float32" else 2)
        else:
            self._whole, values = _of_codes(dim, 8 if kind == "int8" else 4)
            if kind == "int8":
                self._whole = np.concatenate([values, self._whole], axis=1)
            else:
                # Tokens 4 to 7 of eight are in the high half of the bytes of tokens 0 to 3.
                self._values = values
        self._shifts = np.where(np.arange(PAGE_TOKENS) % 8 >= 4, 4, 0).astype(np.uint8)[:, None]
        self.nbytes = self._whole.shape[1] + (0 if self._values is None else self._values.shape[1])
        """Of one token."""

    def read(self, heads: Bytes, start: int, stop: int) -> Bytes:
        """uint8 [heads, stop - start, nbytes] from pages uint8 [heads, bytes of a head]."""
        whole = heads[:, self._whole[start:stop]]
        if self._values is None:
            return whole
        codes = heads[:, self._values[start:stop]] >> self._shifts[start:stop] & np.uint8(15)
        return np.concatenate([codes, whole], axis=2)

    def write(self, heads: Bytes, start: int, data: Bytes) -> None:
        """Put what `read` gave into pages, from token `start` on."""
        stop = start + data.shape[1]
        codes = data.shape[2] - self._whole.shape[1]
        heads[:, self._whole[start:stop]] = data[:, :, codes:]
        if self._values is not None:
            # One token at a time: two share a byte.
            for token in range(start, stop):
                at, shift = self._values[token], self._shifts[token]
                kept = heads[:, at] & np.uint8(0xF0 >> int(shift[0]))
                heads[:, at] = kept | data[:, token - start, :codes] << shift


@cache
def token_bytes(kind: str, dim: int) -> TokenBytes:
    """The one for these."""
    return TokenBytes(kind, dim)


def _of_floats(dim: int, size: int) -> Index:
    """Where each token's bytes are, [64, bytes]."""
    token, number, byte = np.ogrid[:PAGE_TOKENS, :dim, :size]
    keys = (number * PAGE_TOKENS + token) * size + byte
    values = PAGE_TOKENS * dim * size + (token * dim + number) * size + byte
    return np.concatenate([keys.reshape(PAGE_TOKENS, -1), values.reshape(PAGE_TOKENS, -1)], axis=1)


def _of_codes(dim: int, bits: int) -> tuple[Index, Index]:
    """Where each token's keys and all scales are, and its values."""
    groups = -(-dim // SCALE_GROUP)
    per_line = 32 // bits
    """Inputs whose codes stand in 64 bytes."""
    codes = groups * SCALE_GROUP * _PANEL * bits // 8
    panel = -(-(codes + 2 * _PANEL * groups) // _LINE) * _LINE
    token, group, byte = np.ogrid[:PAGE_TOKENS, :groups, :2]
    line, four = np.ogrid[: groups * SCALE_GROUP // per_line, :4]
    start = token[:, :, 0] // _PANEL * panel
    keys = start + (line * _LINE + four).reshape(1, -1) + token[:, :, 0] % _PANEL * 4
    key_scales = start[:, :, None] + codes + (group * _PANEL + token % _PANEL) * 2 + byte
    values_at = PAGE_TOKENS // _PANEL * panel
    values = values_at + _value_bytes(dim, bits)
    panels = -(-dim // _PANEL)
    value_groups = 1 if bits == 8 else -(-dim // SCALE_GROUP)
    scales_at = values_at + panels * PAGE_TOKENS * _PANEL * bits // 8
    token, group, byte = np.ogrid[:PAGE_TOKENS, :value_groups, :2]
    scales = (scales_at + (group * PAGE_TOKENS + token) * 2 + byte).reshape(PAGE_TOKENS, -1)
    assert int(scales.max()) + 1 == head_page_bytes("int8" if bits == 8 else "int4", dim, dim)
    whole = np.concatenate([keys, key_scales.reshape(PAGE_TOKENS, -1), scales], axis=1)
    return whole, values


def _value_bytes(dim: int, bits: int) -> Index:
    """Where each number of each token's value is, from the first value on, [64, numbers in whole panels]."""
    token, number = np.ogrid[:PAGE_TOKENS, : -(-dim // _PANEL) * _PANEL]
    per_line = 32 // bits
    panel = PAGE_TOKENS * _PANEL * bits // 8
    found: Index = number // _PANEL * panel + token // per_line * _LINE + number % _PANEL * 4 + token % 4
    return found
