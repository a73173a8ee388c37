"""An engine for tests, honest about its cache: logits depend on every token before, through it alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge.artifact import KvGroup
from edge.errors import Cancelled, ContextExceeded, EngineError, EngineFailed, MemoryBudgetError
from runtimes.budget import Budget
from runtimes.protocol import CancelToken, LayerGroup, Logits, Step
from runtimes.site import Card

BYTES_PER_TOKEN = 16
_MASK = (1 << 64) - 1


@dataclass
class ToyEngine:
    """Logits are drawn from a generator seeded by the hash of the tokens so far.

    `before_token` is called with the number of tokens run since the engine was made, before each is run.
    """

    vocab: int
    context: int = 256
    kv_tokens: int | None = None
    forgetful: bool = False
    """Refuses to truncate, as a sliding window does."""
    before_token: Callable[[int], None] = lambda ran: None
    shape: Callable[[Logits], Logits] = lambda logits: logits
    """Changes logits [vocab] before they are given out."""
    name: str = "toy"
    variant: str = "toy"
    isa: str = ""
    passed_over: str = ""
    card: Card | None = None
    threads: int = 1
    kv: tuple[KvGroup, ...] = ()
    weight_bytes: int = 0
    version: str = "1"
    budget: Budget = field(default_factory=lambda: Budget(None))
    ran: int = 0
    closed: bool = False
    caches: list[ToyCache] = field(default_factory=list)

    def new_cache(self) -> ToyCache:
        self.caches.append(ToyCache(self))
        return self.caches[-1]

    @property
    def nbytes(self) -> int:
        return sum(cache.nbytes for cache in self.caches)

    def run(self, steps: Sequence[Step], cancel: CancelToken | None = None) -> list[Logits]:
        if self.closed:
            raise EngineFailed("the engine is closed")
        for step in steps:
            step.cache.reserve(len(step.tokens))
        return [self._step(step, cancel) for step in steps]

    def _step(self, step: Step, cancel: CancelToken | None) -> Logits:
        assert isinstance(step.cache, ToyCache)
        states = list(step.cache.states)
        for token in step.tokens:
            assert 0 <= token < self.vocab
            self.before_token(self.ran)
            if cancel is not None and cancel.cancelled:
                raise Cancelled("the run was cancelled")
            states.append(hash((states[-1] if states else 0, int(token))) & _MASK)
            self.ran += 1
        start = len(step.cache.states)
        step.cache.states = states
        rows = [self.shape(self._logits(states[start + at])) for at in step.logits_at]
        return np.stack(rows) if rows else np.zeros((0, self.vocab), np.float32)

    def _logits(self, state: int) -> Logits:
        return np.random.default_rng(state).standard_normal(self.vocab).astype(np.float32) * 3

    def close(self) -> None:
        self.closed = True


class ToyCache:
    def __init__(self, engine: ToyEngine) -> None:
        self.engine = engine
        self.states: list[int] = []
        self.room = 0
        self.closed = False

    @property
    def length(self) -> int:
        return len(self.states)

    @property
    def nbytes(self) -> int:
        return self.room * BYTES_PER_TOKEN

    @property
    def layers(self) -> tuple[LayerGroup, ...]:
        return (LayerGroup("full", (0,), self.length, self.nbytes),)

    def reserve(self, tokens: int) -> None:
        assert not self.closed, "a closed cache was used"
        wanted = self.length + tokens
        if wanted > self.engine.context:
            raise ContextExceeded(f"{wanted} tokens, the context holds {self.engine.context}")
        if wanted > self.room:
            taken = self.engine.nbytes // BYTES_PER_TOKEN - self.room
            if self.engine.kv_tokens is not None and taken + wanted > self.engine.kv_tokens:
                raise MemoryBudgetError(f"{wanted} tokens, the budget holds {self.engine.kv_tokens}")
            self.room = wanted

    def truncate(self, length: int) -> None:
        if self.engine.forgetful:
            raise EngineError("a sliding window has forgotten")
        del self.states[length:]

    def fork(self, length: int) -> ToyCache:
        cache = self.engine.new_cache()
        cache.reserve(length)
        cache.states = self.states[:length]
        return cache

    def export(self, start: int, stop: int) -> bytes:
        return np.array(self.states[start:stop], np.uint64).tobytes()

    def adopt(self, data: bytes | memoryview) -> None:
        states = np.frombuffer(data, np.uint64).tolist()
        self.reserve(len(states))
        self.states += states

    def share(self, start: int, stop: int) -> ToySpan:
        return ToySpan(start, stop, self.states[start:stop])

    def attach(self, span: ToySpan) -> None:
        assert span.start == self.length
        self.reserve(span.stop - span.start)
        self.states += span.states

    def slide(self, keep: int, drop: int) -> None:
        assert keep + drop <= self.length
        del self.states[keep : keep + drop]

    def close(self) -> None:
        self.states, self.room, self.closed = [], 0, True


@dataclass
class ToySpan:
    start: int
    stop: int
    states: list[int]

    @property
    def nbytes(self) -> int:
        return len(self.states) * BYTES_PER_TOKEN

    def export(self) -> bytes:
        return np.array(self.states, np.uint64).tobytes()

    def close(self) -> int:
        nbytes, self.states = self.nbytes, []
        return nbytes
