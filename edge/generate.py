"""Generation: prefill, then one token at a time until something ends it."""

from __future__ import annotations

import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from edge.cache.session import Session
from edge.detokenizer import Detokenizer
from edge.errors import Cancelled, ContextExceeded, MemoryBudgetError
from edge.limits import Limits, checked_max_tokens, checked_tokens
from edge.sampling import Sampler, Sampling
from edge.stop import StopStrings
from edge.tokenizer import Tokenizer
from runtimes.protocol import CancelToken, Logits

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Timings:
    """How long a generation took, without the caller's time between pieces; 0.0 where not measured."""

    ttft_s: float = 0.0
    """From the first request for text to the first token, in seconds."""
    prefill_tokens_per_s: float = 0.0
    """Over the prompt tokens that were run, not those found in the cache."""
    decode_tokens_per_s: float = 0.0
    """Over the tokens after the first."""


class Generation:
    """An answer that is computed while it is iterated: pieces of text, each whole UTF-8. Nothing runs before.

    `cancel` may be called from any thread and ends the iteration within one token. An iteration that was left
    can be taken up again; `close` (or leaving a `with` block) ends it for good and gives its memory back.

    Raises:
        InvalidArgument: no prompt tokens, a token outside of the vocabulary, `max_tokens` below 1, an empty
            stop string.
        ContextExceeded: the prompt has more tokens than the context holds; or, with the limit `error`, the answer
            reached its end. What was said is kept.
        MemoryBudgetError: there is no memory for the prompt; or, with the limit `error`, none for the next token.
    """

    def __init__(
        self,
        session: Session,
        tokenizer: Callable[[], Tokenizer],
        prompt: Sequence[int],
        *,
        vocab: int,
        sampling: Sampling,
        limits: Limits,
        on_end: Callable[[Generation], None] | None = None,
    ) -> None:
        self._prompt = checked_tokens(prompt, vocab)
        context = session.engine.context
        slides = limits.at_limit == "window"
        if len(prompt) > context and not slides:
            raise ContextExceeded(
                f"the prompt has {len(prompt)} tokens and the context holds {context}; shorten the prompt, "
                "or load the model with a larger context and memory for it"
            )
        # The last token of an answer is not run, so it needs no room in the context.
        room = sys.maxsize if slides else context - len(prompt) + 1
        self._most = checked_max_tokens(limits.max_tokens, room)
        self._full_is_error = limits.at_limit == "error" and self._most == room != limits.max_tokens
        self._at_limit = limits.at_limit
        self._stop_ids = limits.stop_ids
        self._stops = StopStrings(limits.stop)
        self._watched = bool(limits.stop)
        self._sampler = Sampler(sampling, vocab)
        self._session = session
        self._on_end = on_end
        self._tokenizer = tokenizer
        self._detokenizer: Detokenizer | None = None
        self._undecoded: list[int] = []
        self._history = array("q", prompt)
        self._pieces: list[str] = []
        self._cancel = CancelToken()
        # Re-entrant: what hears of the end may read the text.
        self._busy = threading.RLock()
        self._ended = False
        self._decode_s = 0.0
        self._first = Timings()
        self.cached_tokens = 0
        """Prompt tokens found in the cache, known once it has begun."""
        self.finish_reason: FinishReason | None = None
        """None while it runs, and after an error."""
        self._kv_bytes = 0
        self._began = self._kept = False

    @property
    def text(self) -> str:
        """The answer so far, without the end token and the stop string."""
        if self._undecoded:
            with self._busy:
                self._pieces.append(self._decode() + (self._decode_rest() if self._ended else ""))
        return "".join(self._pieces)

    @property
    def token_ids(self) -> list[int]:
        """The tokens sampled so far, the end token included."""
        return self._history[len(self._prompt) :].tolist()

    @property
    def prompt_ids(self) -> list[int]:
        """The prompt's tokens."""
        return list(self._prompt)

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens of the prompt."""
        return len(self._prompt)

    @property
    def kv_bytes(self) -> int:
        """KV memory taken in bytes, room included; at the end, what was taken last."""
        return self._kv_bytes if self._ended else self._session.nbytes

    @property
    def timings(self) -> Timings:
        """How long it has taken so far."""
        after_first = len(self._history) - len(self._prompt) - 1
        rate = after_first / self._decode_s if self._decode_s else 0.0
        return Timings(self._first.ttft_s, self._first.prefill_tokens_per_s, rate)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while not self._ended:
            _, piece = self._advance(text=True)
            if piece:
                return piece
        raise StopIteration

    def tokens(self) -> Iterator[int]:
        """Token ids instead of text, one as soon as it is sampled; text is made only for stop strings."""
        while not self._ended:
            id, _ = self._advance(text=self._watched)
            if id is not None:
                yield id

    def cancel(self) -> None:
        """End the iteration within one token; what was said is kept."""
        self._cancel.cancel()

    def close(self) -> None:
        """Cancel what is left, wait for a thread that is iterating, and give the memory back."""
        self.cancel()
        with self._busy:
            if not self._ended:
                self._end("cancelled")

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _advance(self, *, text: bool) -> tuple[int | None, str]:
        """Sample one token, or end; the token and, if wanted, the text that is certain with it."""
        with self._busy:
            if self._ended:
                return None, ""
            start = time.perf_counter()
            try:
                logits = None if self._cancel.cancelled else self._logits()
                if logits is None or self._cancel.cancelled:
                    return None, self._end("cancelled")
                return self._take(self._sampler.pick(logits, self._history), start, text)
            except Cancelled:
                return None, self._end("cancelled")
            except BaseException as e:
                # The text so far is an answer; without any there is nothing to stop.
                said = len(self._history) > len(self._prompt)
                if isinstance(e, MemoryBudgetError) and said and self._at_limit != "error":
                    return None, self._end("length")
                self._release()
                raise

    def _logits(self) -> Logits:
        """Logits [vocab] behind all that is there: prefill at first, then one token each time."""
        if len(self._history) > len(self._prompt):
            self._keep_prompt()
            return self._session.run(self._history[-1:], self._cancel)
        start = time.perf_counter()
        if not self._began:
            self._session.busy.acquire()
            self._began = True
        self.cached_tokens = self._session.rewind_to(self._prompt)
        rest = self._prompt[self.cached_tokens :]
        logits = self._session.run(rest, self._cancel)
        self._first = Timings(0.0, len(rest) / (time.perf_counter() - start))
        return logits

    def _take(self, id: int, start: float, text: bool) -> tuple[int, str]:
        self._history.append(id)
        count = len(self._history) - len(self._prompt)
        piece = ""
        reason: FinishReason | None = None
        if id in self._stop_ids:
            reason = "stop"
        else:
            self._undecoded.append(id)
            piece = self._decode() if text else ""
            if self._stops.stopped:
                reason = "stop"
            elif count == self._most:
                reason = "length"
        elapsed = time.perf_counter() - start
        if count == 1:
            self._first = Timings(elapsed, self._first.prefill_tokens_per_s)
        else:
            self._decode_s += elapsed
        self._pieces.append(piece)
        if reason == "length" and self._full_is_error:
            raise ContextExceeded(
                f"the context of {self._session.engine.context} tokens is full after {count} tokens of the answer; "
                "load with a larger context, set max_tokens, or let answers stop there (at_limit stop)"
            )
        return id, piece + (self._end(reason) if reason else "")

    def _end(self, reason: FinishReason) -> str:
        """Give everything back; the text that was still held."""
        rest = "" if self._undecoded else self._decode_rest()
        self._pieces.append(rest)
        self.finish_reason = "stop" if self._stops.stopped else reason
        self._release()
        return rest

    def _decode(self) -> str:
        """The text that is certain with the tokens not decoded yet."""
        if self._detokenizer is None:
            self._detokenizer = self._tokenizer().detokenizer()
        ids, self._undecoded = self._undecoded, []
        return "".join([self._stops.push(self._detokenizer.add(id)) for id in ids])

    def _decode_rest(self) -> str:
        """The text still held when no more tokens come."""
        if self._detokenizer is None or self._stops.stopped:
            return ""
        rest = self._stops.push(self._detokenizer.finish())
        return rest if self._stops.stopped else rest + self._stops.finish()

    def _keep_prompt(self) -> None:
        """Have others begin with the prompt too; behind the first token, which need not wait for it."""
        if not self._kept:
            self._kept = True
            self._session.keep()

    def _release(self) -> None:
        self._kv_bytes = self._session.nbytes
        self._ended = True
        on_end, self._on_end = self._on_end, None
        try:
            self._keep_prompt()
            if on_end is not None:
                on_end(self)
            else:
                self._session.close()
        finally:
            if self._began:
                self._began = False
                self._session.busy.release()
