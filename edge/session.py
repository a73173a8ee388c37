"""A session: one sequence on an engine, its KV cache and the token ids that the cache holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import takewhile

from edge.errors import EngineError
from edge.memory.needs import PREFILL_SLICE
from runtimes.protocol import Cache, CancelToken, Engine, Logits, Step


class Session:
    """One sequence on `engine`. Takes memory when it is first run, and gives it back with `close`."""

    def __init__(self, engine: Engine) -> None:
        self.cache: Cache | None = None
        self.engine = engine
        self.tokens: list[int] = []
        """What the cache holds."""
        # Of one run.
        self._most = PREFILL_SLICE if any(group.window for group in engine.kv) else sys.maxsize

    @property
    def nbytes(self) -> int:
        """KV memory taken, in bytes, room included."""
        return self.cache.nbytes if self.cache is not None else 0

    def common(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` are held, from the first on."""
        pairs = zip(self.tokens, tokens, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens, or everything where the engine cannot keep just those."""
        if self.cache is None or length >= len(self.tokens):
            return
        try:
            self.cache.truncate(length)
        except EngineError:  # a sliding window has forgotten what the shorter sequence would need
            self.close()
        del self.tokens[length:]

    def rewind_to(self, prompt: Sequence[int]) -> int:
        """Keep what is held of the beginning of `prompt`, make room for the rest and return the length kept.

        The last token of the prompt is never kept: its logits are wanted.

        Raises:
            MemoryBudgetError: nothing has changed.
        """
        if self.cache is not None and len(prompt) > len(self.tokens):
            self.cache.reserve(min(len(prompt) - len(self.tokens), self._most))
        self.truncate(self.common(prompt[:-1]))
        if self.cache is None:
            self.cache = self.engine.new_cache()
        return len(self.tokens)

    def run(self, tokens: Sequence[int], cancel: CancelToken) -> Logits:
        """Run `tokens` behind those held; float32 logits [vocab] behind the last.

        Sliding windows forget between slices: a long prompt needs no more of their pages than a slice does.

        Raises:
            Cancelled, CapacityError, EngineFailed: of what was not finished nothing is held.
        """
        for start in range(0, len(tokens), self._most):
            last = self._run(tokens[start : start + self._most], cancel)
        return last

    def _run(self, tokens: Sequence[int], cancel: CancelToken) -> Logits:
        if self.cache is None:
            self.cache = self.engine.new_cache()
        try:
            [logits] = self.engine.run([Step(tokens, self.cache, [len(tokens) - 1])], cancel)
            last: Logits = logits[0]
        except BaseException:
            # An interrupt can come between the engine's last write and here.
            if self.cache.length > len(self.tokens):
                self.cache.truncate(len(self.tokens))
            raise
        self.tokens.extend(tokens)
        return last

    def close(self) -> None:
        """Give the memory back; the session is empty afterwards and can be run again."""
        if self.cache is not None:
            self.cache.close()
        self.cache = None
        self.tokens.clear()

    def __del__(self) -> None:
        self.close()
