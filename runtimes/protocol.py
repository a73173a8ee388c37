"""The engine protocol: what the runtime asks of any engine, and nothing more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edge.artifact import KvGroup
from runtimes.budget import Budget
from runtimes.site import Card

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class LayerGroup:
    """Layers whose KV is kept alike: what a cache holds of them."""

    kind: str
    layers: tuple[int, ...]
    tokens: int
    nbytes: int


class KvSpan(Protocol):
    """The KV of tokens [start, stop) of a sequence, held apart from the cache that it was shared from."""

    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps from being given back, whoever else uses them."""

    def export(self) -> bytes:
        """What `Cache.export` gives of these tokens."""

    def close(self) -> int:
        """Let go of the memory; the span is empty afterwards. Bytes that nobody uses any more."""


@runtime_checkable
class Cache(Protocol):
    """Engine-owned KV memory of one sequence."""

    @property
    def length(self) -> int:
        """Tokens held."""

    @property
    def nbytes(self) -> int:
        """Bytes allocated, room included."""

    @property
    def layers(self) -> tuple[LayerGroup, ...]:
        """What is held, by group of layers."""

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` more.

        Raises:
            ContextExceeded: the context does not hold them.
            MemoryBudgetError: the budget does not hold them. In both cases nothing has changed.
        """

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens.

        Raises:
            InvalidArgument: `length` is negative or more than is held.
            EngineError: refused, since a sliding window has forgotten what they need; nothing has changed.
        """

    def fork(self, length: int) -> Cache:
        """A new cache holding the first `length` tokens of this one."""

    def export(self, start: int, stop: int) -> bytes:
        """The KV of tokens [start, stop), to be given to `adopt`."""

    def adopt(self, data: bytes | memoryview) -> None:
        """Append what `export` gave; the tokens must follow on those already held."""

    def share(self, start: int, stop: int) -> KvSpan:
        """Hold the KV of tokens [start, stop), whole blocks, for other sequences; no copy where the cache is paged.

        Raises:
            InvalidArgument: they are not whole blocks, or not held.
            EngineError: a sliding window has forgotten some.
            MemoryBudgetError: the copy does not fit the budget.
        """

    def attach(self, span: KvSpan) -> None:
        """Append what `share` gave; the tokens must follow on those already held.

        Raises:
            InvalidArgument: they do not.
            ContextExceeded, MemoryBudgetError: nothing has changed.
        """

    def slide(self, keep: int, drop: int) -> None:
        """Forget `drop` tokens behind the first `keep`, whole blocks both; those behind them move up.

        Keys are turned to their new positions (StreamingLLM, Xiao et al. 2023, arXiv:2309.17453: positions are those
        in the cache), which says exactly what the same keys at these positions would have been.

        Raises:
            InvalidArgument: they are not whole blocks, or not held.
            EngineError: the model's positions cannot be moved, or a sliding window has forgotten some.
            MemoryBudgetError: there is no room for copies of blocks that others use. In all cases nothing has changed.
        """

    def close(self) -> None:
        """Give the memory back; the cache is empty afterwards."""


@dataclass(frozen=True)
class Step:
    """Tokens to run behind what `cache` holds; logits are wanted at `logits_at` (indices into `tokens`)."""

    tokens: Sequence[int]
    cache: Cache
    logits_at: Sequence[int]


class CancelToken:
    """Cancels a run from another thread: between chunks, and inside one where the engine can."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._abort: Callable[[], None] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()

    def cancel(self) -> None:
        """Ask the run to stop; returns at once, may be called more than once."""
        with self._lock:
            self._event.set()
            if self._abort is not None:
                self._abort()

    def on_cancel(self, abort: Callable[[], None] | None) -> None:
        """Set what stops the call in flight; called at once if the token is cancelled already."""
        with self._lock:
            self._abort = abort
            if abort is not None and self._event.is_set():
                abort()


@dataclass(frozen=True)
class Grant:
    """What an engine may take: tokens of a sequence, and bytes of KV in all; None is no limit."""

    context: int
    kv_budget: int | None


class Engine(Protocol):
    """Runs one model."""

    name: str
    variant: str
    """The engine whose variants of an artifact it runs: its own name, but for one that stands in for another."""
    isa: str
    """The instruction set that its kernels use; empty where the engine does not tell."""
    version: str
    """Of the library that runs the graph."""
    threads: int
    context: int
    weight_bytes: int
    kv: tuple[KvGroup, ...]
    """How keys and values are kept, by group of layers."""
    budget: Budget
    """What all its caches have taken together, and may."""
    card: Card | None
    """The GPU whose own memory that is; None where it is the host's."""
    passed_over: str
    """Why `auto` did not take a faster engine that the artifact is for; empty where it did."""

    def new_cache(self) -> Cache:
        """An empty cache for one sequence."""

    def run(self, steps: Sequence[Step], cancel: CancelToken | None = None) -> list[Logits]:
        """Run every step; a cache grows by its tokens, all of them or none.

        Returns:
            For each step float32 logits of shape [len(logits_at), vocab].

        Raises:
            ContextExceeded, MemoryBudgetError: before anything is written, for all steps.
            Cancelled: the cancel token was set; the caches of unfinished steps are as before.
            EngineFailed: the engine refused.
        """

    def close(self) -> None:
        """Release the model; further runs raise EngineFailed."""
