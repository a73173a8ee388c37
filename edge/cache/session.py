"""A session: one sequence on an engine, its KV cache and the token ids that the cache holds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from itertools import takewhile

from edge.cache.block import BLOCK_TOKENS, Block
from edge.cache.policy import SINK_TOKENS, Window
from edge.cache.prefix import PrefixCache
from edge.errors import CapacityError, EngineError, InvalidArgument, MemoryBudgetError
from edge.memory.needs import PREFILL_SLICE
from runtimes.protocol import Cache, CancelToken, Engine, Logits, Step


class Session:
    """One sequence on `engine`. Takes memory when it is first run, and gives it back with `close`.

    What `prefix` holds of a prompt is not run again; what is run is held there for others. With a `window` the sequence
    may become longer than the context; once its middle has gone it shares nothing.
    """

    def __init__(
        self, engine: Engine, prefix: PrefixCache | None = None, window: Window | None = None
    ) -> None:
        self.cache: Cache | None = None
        self.engine = engine
        self.prefix = prefix
        self.tokens: list[int] = []
        """What was run, the middle that has gone included."""
        self.dropped = 0
        """Tokens of the middle that have gone."""
        self.busy = threading.Lock()
        """Held while an answer is made: what is idle may be parked by whoever needs the memory."""
        self._window = window
        # Of one run.
        self._most = PREFILL_SLICE if any(group.window for group in engine.kv) else sys.maxsize
        if window is not None:
            self._most = window.step

    @property
    def nbytes(self) -> int:
        """KV memory taken, in bytes, room included."""
        return self.cache.nbytes if self.cache is not None else 0

    @property
    def shared(self) -> PrefixCache | None:
        """Where what is held can be of use to others, and what others hold here."""
        return None if self.dropped else self.prefix

    def common(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` are held, from the first on."""
        pairs = zip(self.tokens, tokens, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens, or everything where the engine cannot keep just those."""
        if self.cache is None or length >= len(self.tokens):
            return
        try:
            if self.dropped:
                raise EngineError("the middle has gone")
            self.cache.truncate(length)
            del self.tokens[length:]
        except EngineError:  # a window has forgotten what the shorter sequence would need
            self.close()

    def rewind_to(self, prompt: Sequence[int]) -> int:
        """Keep what is held of the beginning of `prompt`, here or in the prefix cache, make room for the rest.

        The last token of the prompt is never kept: its logits are wanted.

        Returns:
            The length kept.

        Raises:
            MemoryBudgetError: nothing has changed.
        """
        kept = self.common(prompt[:-1])
        found = self._found(prompt, kept)
        shared = self.prefix.in_memory(found) if self.prefix is not None else 0
        missing = len(prompt) - max(len(self.tokens), shared)
        if self.cache is not None and missing > 0 and self._window is None:
            self.cache.reserve(min(missing, self._most))
        self.truncate(kept // BLOCK_TOKENS * BLOCK_TOKENS if found else kept)
        if self.cache is None:
            self.cache = self.engine.new_cache()
        if self.prefix is not None and found:
            try:
                self.prefix.attach(self.cache, found)
            finally:
                self.tokens[:] = prompt[: self.cache.length]
        return len(self.tokens)

    def restore(self, tokens: Sequence[int], rest: bytes | memoryview) -> None:
        """Hold what the prefix cache has of `tokens`, and those behind its last whole block from their KV, `rest`."""
        if self.prefix is None:
            return
        whole = len(tokens) // BLOCK_TOKENS * BLOCK_TOKENS
        self.close()
        self.cache = self.engine.new_cache()
        try:
            self.prefix.attach(self.cache, self.prefix.find(tokens))
            if self.cache.length == whole:
                self.cache.adopt(rest)
        except (InvalidArgument, CapacityError):  # then it is run again
            pass
        finally:
            self.tokens[:] = tokens[: self.cache.length]

    def keep(self) -> None:
        """Have the prefix cache hold what is held here."""
        if self.shared is not None and self.cache is not None:
            self.shared.keep(self.cache, self.tokens)

    def park(self) -> int:
        """Give the memory back unless an answer is being made; whole blocks go to the disk, where there is one.

        Returns:
            Bytes that were taken here.
        """
        if not self.busy.acquire(blocking=False):
            return 0
        try:
            if self.shared is not None and self.cache is not None:
                self.shared.write(self.cache, self.tokens)
            nbytes = self.nbytes
            self.close()
            return nbytes
        finally:
            self.busy.release()

    def run(self, tokens: Sequence[int], cancel: CancelToken) -> Logits:
        """Run `tokens` behind those held; float32 logits [vocab] behind the last.

        Sliding windows forget between slices: a long prompt needs no more of their pages than a slice does.

        Raises:
            Cancelled, CapacityError, EngineFailed: of what was not finished nothing is held.
        """
        for start in range(0, len(tokens), self._most):
            last = self._run(tokens[start : start + self._most], cancel)
        return last

    def close(self) -> None:
        """Give the memory back; the session is empty afterwards and can be run again."""
        if self.cache is not None:
            self.cache.close()
        self.cache = None
        self.tokens.clear()
        self.dropped = 0

    def __del__(self) -> None:
        self.close()

    def _found(self, prompt: Sequence[int], kept: int) -> list[Block]:
        """Blocks of `prompt` in the prefix cache, where they are more than the tokens kept here."""
        if self.shared is None:
            return []
        most = len(prompt) - 1 if self._window is None else self._window.capacity
        found = self.shared.find(prompt[: min(len(prompt) - 1, most)])
        return found if len(found) * BLOCK_TOKENS > kept else []

    def _run(self, tokens: Sequence[int], cancel: CancelToken) -> Logits:
        if self.cache is None:
            self.cache = self.engine.new_cache()
        if self._window is not None:
            self._make_room(self.cache, self._window, len(tokens))
        try:
            [logits] = self.engine.run([Step(tokens, self.cache, [len(tokens) - 1])], cancel)
            last: Logits = logits[0]
        except BaseException:
            # An interrupt can come between the engine's last write and here.
            if self.cache.length > len(self.tokens) - self.dropped:
                self.cache.truncate(len(self.tokens) - self.dropped)
            raise
        self.tokens.extend(tokens)
        return last

    def _make_room(self, cache: Cache, window: Window, more: int) -> None:
        """Have the oldest tokens behind the beginning go until `more` fit the context, and the memory."""
        while True:
            drop = window.dropped(cache.length, more)
            if not drop:
                try:
                    return cache.reserve(more)
                except MemoryBudgetError:
                    drop = min(window.step, window.droppable(cache.length))
                    if not drop:
                        raise
            try:
                cache.slide(SINK_TOKENS, drop)
            except BaseException:
                # Where it was cut short the cache is empty; else nothing has changed.
                if cache.length < len(self.tokens) - self.dropped:
                    self.close()
                raise
            self.dropped += drop
