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
from edge.errors import EngineFailed, MemoryBudgetError
from runtimes.budget import Budget
from runtimes.kv_data import check_context, check_header, check_range, check_slide, check_whole, split_header
from runtimes.onnxruntime.span import CopiedSpan
from runtimes.protocol import KvSpan, LayerGroup

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


class OnnxRuntimeCache:
    """See `runtimes.protocol.Cache`. Not safe to use from two threads at once."""

    def __init__(self, spec: ModelSpec, groups: Sequence[KvGroup], context: int, budget: Budget) -> None:
        self._spec = spec
        self._groups = groups
        self._kind = groups[0].type
        self._context = context
        self._budget = budget
        self._length = 0
        self._capacity = 0
        self._buffers = [self._empty(0) for _ in range(2 * self._spec.layers)]
        self.bindings: dict[str, Any] = {}
        """What the engine bound to these buffers; dropped when they change."""

    @property
    def length(self) -> int:
        """Tokens held."""
        return self._length

    @property
    def capacity(self) -> int:
        """Tokens that fit before the next growth."""
        return self._capacity

    @property
    def nbytes(self) -> int:
        """Bytes allocated, room included."""
        return self._bytes(self._capacity)

    @property
    def layers(self) -> tuple[LayerGroup, ...]:
        """What is held, by group of layers."""
        return tuple(
            LayerGroup(group.kind, group.layers, self._length, group.bytes_per_token * self._capacity)
            for group in self._groups
        )

    def buffers(self) -> list[tuple[Buffer, Buffer]]:
        """(keys, values) of each layer as the operator takes them, [1, kv_heads, capacity, head_dim]."""
        return list(zip(self._buffers[::2], self._buffers[1::2], strict=True))

    def reserve(self, tokens: int) -> None:
        """See `Cache.reserve`."""
        self.grow(self.check(tokens))

    def check(self, tokens: int) -> int:
        """The capacity that `tokens` more need; the present one where they fit.

        Raises:
            ContextExceeded
        """
        needed = check_context(self._length, tokens, self._context)
        if needed <= self._capacity:
            return self._capacity
        ahead = max(needed, self._capacity + self._capacity // _AHEAD)
        return min(self._context, -(-ahead // BLOCK) * BLOCK)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` tokens in all, a layer at a time.

        Raises:
            MemoryBudgetError: the budget or the system refuses; what is held has not changed.
        """
        if capacity <= self._capacity:
            return
        more = self._bytes(capacity) - self._bytes(self._capacity)
        self._budget.take(more, f"room for {capacity} tokens")
        try:
            self._move(capacity, self._length)
        except MemoryError:
            self._budget.give(more)
            raise MemoryBudgetError(
                f"the system refused the memory for {capacity} tokens of KV; use a shorter context"
            ) from None

    def truncate(self, length: int) -> None:
        """See `Cache.truncate`."""
        check_range(0, length, self._length)
        self._length = length

    def advance(self, tokens: int) -> None:
        """Count `tokens` that a run has written behind those held."""
        self._length += tokens

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

    def share(self, start: int, stop: int) -> CopiedSpan:
        """See `Cache.share`; a copy."""
        check_whole(start, stop)
        check_range(start, stop, self._length)
        self._budget.take(self._bytes(stop - start), f"a copy of {stop - start} tokens")
        return CopiedSpan(self._budget, start, stop, self._bytes(stop - start), self.export(start, stop))

    def attach(self, span: KvSpan) -> None:
        """See `Cache.attach`; a copy."""
        if not isinstance(span, CopiedSpan) or span.budget is not self._budget:
            raise EngineFailed("the KV belongs to another engine; use the one that shared it")
        self.adopt(span.export())

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
        self._move(0, 0)

    def check_owner(self, engine_budget: Budget) -> None:
        """Raises EngineFailed where the cache belongs to another engine."""
        if self._budget is not engine_budget:
            raise EngineFailed("the cache belongs to another engine; use the one that made it")

    def __del__(self) -> None:
        # A cache dropped without close gives its bytes back all the same.
        if self.__dict__.get("_capacity"):
            self._budget.give(self.nbytes)
            self._capacity = 0

    def _move(self, capacity: int, length: int) -> None:
        self.bindings.clear()
        for i, old in enumerate(self._buffers):
            new = self._empty(capacity)
            new[:, :, :length] = old[:, :, :length]
            self._buffers[i] = new
        self._capacity = capacity

    def _empty(self, capacity: int) -> Buffer:
        dtype = _TYPES[self._kind].newbyteorder("=")
        shape = 1, self._spec.kv_heads, capacity, static_kv_width(self._kind, self._spec.head_dim)
        nbytes = dtype.itemsize * math.prod(shape)
        memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        return memory[start : start + nbytes].view(dtype).reshape(shape)

    def _bytes(self, tokens: int) -> int:
        return sum(group.bytes_per_token for group in self._groups) * tokens

    def _header(self, start: int, stop: int) -> dict[str, Any]:
        spec = self._spec
        shape = {"layers": spec.layers, "kv_heads": spec.kv_heads, "head_dim": spec.head_dim}
        return {"type": self._kind, **shape, "start": start, "stop": stop}
