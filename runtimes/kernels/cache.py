"""The KV cache of one sequence as our attention reads it: keys in pages, turned so that a vector holds many tokens.

Keys are float32 [1, kv_heads, pages, head_dim, PAGE], values float32 [1, kv_heads, capacity, head_dim].
"""

from __future__ import annotations

import numpy as np

from edge.artifact import ModelSpec
from runtimes.onnxruntime.cache import Buffer, OnnxRuntimeCache

PAGE = 64
"""Tokens of a page."""


class CpuCache(OnnxRuntimeCache):
    """See `runtimes.protocol.Cache`. Not safe to use from two threads at once."""

    page = PAGE

    @staticmethod
    def shape(spec: ModelSpec, i: int, capacity: int) -> tuple[int, ...]:
        """See `OnnxRuntimeCache.shape`."""
        if i % 2:
            return OnnxRuntimeCache.shape(spec, i, capacity)
        return 1, spec.kv_heads, capacity // PAGE, spec.head_dim, PAGE

    def _copy(self, i: int, source: Buffer, target: Buffer, length: int) -> None:
        super()._copy(i, source, target, length if i % 2 else _pages(length))

    def _read(self, i: int, start: int, stop: int) -> Buffer:
        if i % 2:
            return super()._read(i, start, stop)
        first = start // PAGE
        tokens = _by_token(self._buffers[i][:, :, first : _pages(stop)])
        return tokens[:, :, start - first * PAGE : stop - first * PAGE]

    def _write(self, i: int, start: int, part: Buffer) -> None:
        if i % 2:
            super()._write(i, start, part)
            return
        stop = start + part.shape[2]
        for page in range(start // PAGE, _pages(stop)):
            begin, end = max(start, page * PAGE), min(stop, (page + 1) * PAGE)
            keys = part[:, :, begin - start : end - start].swapaxes(2, 3)
            self._buffers[i][:, :, page, :, begin - page * PAGE : end - page * PAGE] = keys


def _pages(tokens: int) -> int:
    return -(-tokens // PAGE)


def _by_token(pages: Buffer) -> Buffer:
    """[1, heads, pages, dim, PAGE] as [1, heads, pages · PAGE, dim], copied."""
    one, heads, count, dim, _ = pages.shape
    return np.ascontiguousarray(pages.swapaxes(3, 4)).reshape(one, heads, count * PAGE, dim)
