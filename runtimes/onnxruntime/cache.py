"""The KV cache of one sequence for ONNX Runtime: a buffer a layer for keys, one for values, grown by copying.

GroupQueryAttention reads and writes one contiguous buffer [1, kv_heads, capacity, head_dim], bound both as past
and as present: float32, or codes whose scales are in the graph, 4-bit ones two in a byte. Room is taken
in blocks of tokens as the sequence grows, never for the whole context at the start.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.artifact import KvGroup, ModelSpec
from edge.artifact.kv import static_kv_width
from edge.artifact.rope import turn_by
from edge.errors import MemoryBudgetError
from runtimes.budget import Budget
from runtimes.grown_cache import GrownCache
from runtimes.kv_data import check_header, check_range, check_slide, split_header

BLOCK = 128
"""Tokens by which room is rounded up."""
# Room taken beyond what is asked for, as a part of what is there: few copies without much waste.
_AHEAD = 8

# NumPy's own arrays begin 16 bytes into a cache line: every other vector read would touch two.
_ALIGNMENT = 64

Buffer = NDArray[Any]
# Little-endian, as they are exported.
_TYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "int8": np.dtype("i1"),
    "int4": np.dtype("u1"),
}


class OnnxRuntimeCache(GrownCache):
    """See `runtimes.protocol.Cache`. Not safe to use from two threads at once."""

    def __init__(self, spec: ModelSpec, groups: Sequence[KvGroup], context: int, budget: Budget) -> None:
        super().__init__(spec, groups, groups[0].type, context, budget)
        self._buffers = [self._empty(0) for _ in range(2 * self._spec.layers)]
        self.bindings: dict[str, Any] = {}
        """What the engine bound to these buffers; dropped when they change."""

    def buffers(self) -> list[tuple[Buffer, Buffer]]:
        """(keys, values) of each layer as the operator takes them, [1, kv_heads, capacity, head_dim]."""
        return list(zip(self._buffers[::2], self._buffers[1::2], strict=True))

    def fork(self, length: int) -> OnnxRuntimeCache:
        """See `Cache.fork`."""
        check_range(0, length, self._length)
        other = OnnxRuntimeCache(self._spec, self._groups, self._context, self._budget)
        other.reserve(length)
        for mine, theirs in zip(self._buffers, other._buffers, strict=True):
            theirs[:, :, :length] = mine[:, :, :length]
        other._length = length
        return other

    def export(self, start: int, stop: int) -> bytes:
        """See `Cache.export`: a line of JSON, then each layer's keys and values as they are kept."""
        check_range(start, stop, self._length)
        parts = [buffer[:, :, start:stop].astype(_TYPES[self._kind], copy=False) for buffer in self._buffers]
        header = json.dumps(self._header(start, stop)).encode() + b"\n"
        return header + b"".join(part.tobytes() for part in parts)

    def adopt(self, data: bytes | memoryview) -> None:
        """See `Cache.adopt`.

        Raises:
            InvalidArgument: it is no export of this model, or does not follow on the tokens held.
        """
        header, start, stop, body = split_header(data)
        expected = self._bytes(stop - start)
        check_header(header, self._header(start, stop), body, expected, self._length)
        self.reserve(stop - start)
        parts = np.frombuffer(body, _TYPES[self._kind]).reshape(
            len(self._buffers), 1, self._spec.kv_heads, stop - start, -1
        )
        for buffer, part in zip(self._buffers, parts, strict=True):
            buffer[:, :, start:stop] = part
        self._length = stop

    def slide(self, keep: int, drop: int) -> None:
        """See `Cache.slide`."""
        check_slide(self._spec, self._groups, keep, drop, self._length)
        moved = slice(keep + drop, self._length)
        to = slice(keep, self._length - drop)
        cos, sin = turn_by(self._spec, -drop)
        try:
            for keys, values in self.buffers():
                a, b = np.split(keys[0, :, moved], 2, axis=2)
                keys[0, :, to] = np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=2)
                values[0, :, to] = values[0, :, moved].copy()
            self._length -= drop
        except BaseException:
            # Some layers may be where they were and some not.
            self.close()
            raise

    def close(self) -> None:
        """See `Cache.close`."""
        self._budget.give(self.nbytes)
        self._length = 0
        self._move(0)

    def __del__(self) -> None:
        # A cache dropped without close gives its bytes back all the same.
        if self.__dict__.get("_capacity"):
            self._budget.give(self.nbytes)
            self._capacity = 0

    def _move(self, capacity: int) -> None:
        """See `GrownCache._move`; a layer at a time."""
        self.bindings.clear()
        try:
            for i, old in enumerate(self._buffers):
                new = self._empty(capacity)
                new[:, :, : self._length] = old[:, :, : self._length]
                self._buffers[i] = new
        except MemoryError:
            raise MemoryBudgetError(
                f"the system refused the memory for {capacity} tokens of KV; use a shorter context"
            ) from None
        self._capacity = capacity

    def _empty(self, capacity: int) -> Buffer:
        dtype = _TYPES[self._kind].newbyteorder("=")
        shape = 1, self._spec.kv_heads, capacity, static_kv_width(self._kind, self._spec.head_dim)
        nbytes = dtype.itemsize * math.prod(shape)
        memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        return memory[start : start + nbytes].view(dtype).reshape(shape)

    def _room(self, needed: int) -> int:
        ahead = max(needed, self._capacity + self._capacity // _AHEAD)
        return min(self._context, -(-ahead // BLOCK) * BLOCK)
