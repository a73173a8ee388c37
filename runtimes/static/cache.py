"""The KV cache of one sequence in a device's memory: a buffer for each layer's keys, one for its values.

Each is [1, kv_heads, capacity, head_dim], of zeros at first, since what no token sees is multiplied by 0. Room is
taken by buckets, and grows by copying, a buffer at a time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from edge.artifact import KvGroup
from edge.artifact.rope import turn_by
from edge.errors import InvalidArgument, MemoryBudgetError
from runtimes.budget import Budget
from runtimes.grown_cache import GrownCache
from runtimes.kv_data import check_header, check_range, check_slide, split_header
from runtimes.static.bindings import Interface, cache_names
from runtimes.static.buckets import bucket
from runtimes.static.device import Device, Memory, Rows, Runner


class StaticCache(GrownCache):
    """See `runtimes.protocol.Cache`. Not safe to use from two threads at once."""

    def __init__(
        self,
        interface: Interface,
        groups: Sequence[KvGroup],
        device: Device,
        capacities: Sequence[int],
        context: int,
        budget: Budget,
        copies: Budget,
    ) -> None:
        super().__init__(interface.spec, groups, interface.kv_type, context, budget, copies)
        self._interface = interface
        self._device = device
        self._capacities = capacities
        self._names = cache_names(interface.spec)
        self.memory: dict[str, Memory] = {}
        """The buffers by name, such as "0.key"; none where nothing is held."""
        self.runners: dict[bool, Runner] = {}
        """What the engine bound to these buffers, for single tokens and for more; dropped when they change."""

    def rows(self, name: str, start: int, stop: int) -> Rows:
        """Tokens [start, stop) of the buffer `name`, those of a head together."""
        row = self._interface.row_bytes
        return self._rows(self.memory[name], self._capacity, start * row, (stop - start) * row)

    def fork(self, length: int) -> StaticCache:
        """See `Cache.fork`."""
        check_range(0, length, self._length)
        other = StaticCache(
            self._interface,
            self._groups,
            self._device,
            self._capacities,
            self._context,
            self._budget,
            self._copies,
        )
        other.reserve(length)
        if length:
            for name in self._names:
                self._device.copy(self.rows(name, 0, length), other.rows(name, 0, length))
        other._length = length
        return other

    def export(self, start: int, stop: int) -> bytes:
        """See `Cache.export`: a line of JSON, then each layer's keys and values as they are kept."""
        check_range(start, stop, self._length)
        header = json.dumps(self._header(start, stop)).encode() + b"\n"
        if start == stop:
            return header
        parts = [self._device.read(self.rows(name, start, stop)).tobytes() for name in self._names]
        return header + b"".join(parts)

    def adopt(self, data: bytes | memoryview) -> None:
        """See `Cache.adopt`.

        Raises:
            InvalidArgument: it is no export of this model, or does not follow on the tokens held.
        """
        header, start, stop, body = split_header(data)
        expected = self._bytes(stop - start)
        check_header(header, self._header(start, stop), body, expected, self._length)
        numbers = np.frombuffer(body, self._interface.kv_dtype)
        if self._interface.kv_type == "float16" and not np.isfinite(numbers).all():
            # Once forgotten they would still be multiplied by 0.
            raise InvalidArgument("the KV data holds numbers that are not finite; run the tokens again")
        self.reserve(stop - start)
        if start != stop:
            parts = numbers.view(np.uint8).reshape(len(self._names), self._interface.spec.kv_heads, -1)
            for name, part in zip(self._names, parts, strict=True):
                self._device.write(part, self.rows(name, start, stop))
        self._length = stop

    def slide(self, keep: int, drop: int) -> None:
        """See `Cache.slide`: by way of the host, and keys are rounded again."""
        spec = self._interface.spec
        check_slide(spec, self._groups, keep, drop, self._length)
        start, stop = keep + drop, self._length
        cos, sin = turn_by(spec, -drop)
        try:
            for name in self._names if start < stop else ():
                moved = self._device.read(self.rows(name, start, stop))
                if name.endswith(".key"):
                    numbers = moved.view(self._interface.kv_dtype).astype(np.float32)
                    a, b = np.split(numbers.reshape(spec.kv_heads, stop - start, -1), 2, axis=2)
                    turned = np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=2)
                    kept = np.ascontiguousarray(turned.astype(self._interface.kv_dtype))
                    moved = kept.reshape(spec.kv_heads, -1).view(np.uint8)
                self._device.write(moved, self.rows(name, keep, stop - drop))
            self._length -= drop
        except BaseException:
            # Some layers may be where they were and some not.
            self.close()
            raise

    def close(self) -> None:
        """See `Cache.close`."""
        self._budget.give(self.nbytes)
        self._length = self._capacity = 0
        self.runners.clear()
        for memory in self.memory.values():
            memory.free()
        self.memory.clear()

    def __del__(self) -> None:
        # A cache dropped without close gives its bytes back all the same.
        if self.__dict__.get("_capacity"):
            self.close()

    def _move(self, capacity: int) -> None:
        """Buffers of `capacity`, one after the other: no more than one is there twice.

        Raises:
            MemoryBudgetError: the device refuses; all are as they were.
        """
        self.runners.clear()
        before, moved = self._capacity, []
        try:
            for name in self._names:
                self._replace(name, before, capacity)
                moved.append(name)
        except MemoryBudgetError:
            for name in moved:
                self._replace(name, capacity, before)
            raise
        self._capacity = capacity

    def _replace(self, name: str, before: int, capacity: int) -> None:
        """A buffer of `capacity` in the place of one of `before`, with the tokens that are held."""
        old = self.memory.pop(name, None)
        try:
            new = self._device.allocate(self._buffer_bytes(capacity)) if capacity else None
        except BaseException:
            if old is not None:
                self.memory[name] = old
            raise
        width = self._length * self._interface.row_bytes
        if old is not None and new is not None and width:
            self._device.copy(self._rows(old, before, 0, width), self._rows(new, capacity, 0, width))
        if old is not None:
            old.free()
        if new is not None:
            self.memory[name] = new

    def _rows(self, memory: Memory, capacity: int, offset: int, width: int) -> Rows:
        pitch = capacity * self._interface.row_bytes
        return Rows(memory, offset, width, pitch, self._interface.spec.kv_heads)

    def _buffer_bytes(self, capacity: int) -> int:
        return self._interface.spec.kv_heads * capacity * self._interface.row_bytes

    def _room(self, needed: int) -> int:
        return bucket(self._capacities, needed)
