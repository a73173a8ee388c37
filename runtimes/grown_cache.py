"""What caches have in common that hold one stretch of room for each layer and grow by copying."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from edge.artifact import KvGroup, ModelSpec
from edge.errors import EngineFailed
from runtimes.budget import Budget
from runtimes.kv_data import check_context, check_range, check_whole
from runtimes.onnxruntime.span import CopiedSpan
from runtimes.protocol import KvSpan, LayerGroup


class GrownCache(ABC):
    """A `runtimes.protocol.Cache` but for how its tokens are kept. Not safe to use from two threads at once."""

    def __init__(
        self,
        spec: ModelSpec,
        groups: Sequence[KvGroup],
        kind: str,
        context: int,
        budget: Budget,
        copies: Budget | None = None,
    ) -> None:
        """`kind` is what KV is kept as, such as int8; `copies` is what those in other memory are taken from."""
        self._spec = spec
        self._groups = groups
        self._kind = kind
        self._context = context
        self._budget = budget
        self._copies = copies if copies is not None else budget
        self._length = 0
        self._capacity = 0

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

    def reserve(self, tokens: int) -> None:
        """See `Cache.reserve`."""
        self.grow(self.check(tokens))

    def check(self, tokens: int) -> int:
        """The capacity that `tokens` more need; the present one where they fit.

        Raises:
            ContextExceeded
        """
        needed = check_context(self._length, tokens, self._context)
        return self._capacity if needed <= self._capacity else self._room(needed)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` tokens in all.

        Raises:
            MemoryBudgetError: the budget or the memory refuses; what is held has not changed.
        """
        if capacity <= self._capacity:
            return
        more = self._bytes(capacity) - self._bytes(self._capacity)
        self._budget.take(more, f"room for {capacity} tokens")
        try:
            self._move(capacity)
        except BaseException:
            self._budget.give(more)
            raise

    def truncate(self, length: int) -> None:
        """See `Cache.truncate`."""
        check_range(0, length, self._length)
        self._length = length

    def advance(self, tokens: int) -> None:
        """Count `tokens` that a run has written behind those held."""
        self._length += tokens

    @abstractmethod
    def export(self, start: int, stop: int) -> bytes:
        """See `Cache.export`: a line of JSON, then each layer's keys and values as they are kept."""

    @abstractmethod
    def adopt(self, data: bytes | memoryview) -> None:
        """See `Cache.adopt`.

        Raises:
            InvalidArgument: it is no export of this model, or does not follow on the tokens held.
        """

    def share(self, start: int, stop: int) -> CopiedSpan:
        """See `Cache.share`; a copy, in the host's memory."""
        check_whole(start, stop)
        check_range(start, stop, self._length)
        self._copies.take(self._bytes(stop - start), f"a copy of {stop - start} tokens")
        return CopiedSpan(self._copies, start, stop, self._bytes(stop - start), self.export(start, stop))

    def attach(self, span: KvSpan) -> None:
        """See `Cache.attach`; a copy."""
        if not isinstance(span, CopiedSpan) or span.budget is not self._copies:
            raise EngineFailed("the KV belongs to another engine; use the one that shared it")
        self.adopt(span.export())

    def check_owner(self, engine_budget: Budget) -> None:
        """Raises EngineFailed where the cache belongs to another engine."""
        if self._budget is not engine_budget:
            raise EngineFailed("the cache belongs to another engine; use the one that made it")

    @abstractmethod
    def _move(self, capacity: int) -> None:
        """Bring what is held to room for `capacity` tokens.

        Raises:
            MemoryBudgetError: the memory refuses; what is held has not changed.
        """

    @abstractmethod
    def _room(self, needed: int) -> int:
        """The capacity to grow to where there have to be `needed` tokens."""

    def _bytes(self, tokens: int) -> int:
        return sum(group.bytes_per_token for group in self._groups) * tokens

    def _header(self, start: int, stop: int) -> dict[str, Any]:
        spec = self._spec
        shape = {"layers": spec.layers, "kv_heads": spec.kv_heads, "head_dim": spec.head_dim}
        return {"type": self._kind, **shape, "start": start, "stop": stop}
