"""What a token costs beside the engine: sampling, and the Python between two runs.

    python -m bench.token_cost [ARTIFACT ...]

Every artifact generates from a stretch of text; its engine's logits are what is sampled. Without one, a stand-in for
an engine hands out synthetic logits, peaked and flat, of two vocabularies. The ways of sampling take turns, and each
round another begins; medians over all tokens but the first of each answer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import tokenizers

import edge
from edge.cache.session import Session
from edge.generate import Generation
from edge.limits import Limits
from edge.sampling import Sampler, Sampling
from edge.tokenizer import Tokenizer
from export.evaluate.text import held_out_text
from runtimes.protocol import CancelToken, Engine, Logits, Step

VOCABULARIES = (49_152, 151_936)
_STOPS = ("\nUser:", "</answer>")
_CONTEXT = 4096
_ROWS = 16


@dataclass(frozen=True)
class Way:
    """One way of generating."""

    name: str
    sampling: Sampling = field(default_factory=Sampling)
    text: bool = False
    """Text is made of the tokens, as they come."""
    stop: tuple[str, ...] = ()


def _ways(seed: int) -> tuple[Way, ...]:
    common: dict[str, Any] = {"temperature": 0.6, "top_p": 0.95, "seed": seed}
    return (
        Way("greedy"),
        Way("greedy, text", text=True),
        Way("greedy, text, stop", text=True, stop=_STOPS),
        Way("temperature 0.6", Sampling(temperature=0.6, seed=seed)),
        Way("0.6, top_p 0.95", Sampling(**common)),
        Way("0.6, top_p 0.95, top_k 40", Sampling(**common, top_k=40)),
        Way("0.6, top_p 0.95, penalty", Sampling(**common, repetition_penalty=1.1)),
    )


@dataclass
class Cost:
    """Seconds of each token: the engine's run, choosing it, and all the rest until the next run."""

    run: list[float] = field(default_factory=list)
    sample: list[float] = field(default_factory=list)
    python: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """Medians of one way in microseconds; `over_greedy` is of sampling alone."""

    source: str
    way: str
    run_us: float
    sample_us: float
    over_greedy_us: float
    python_us: float


class _Watched:
    """An engine as it is, but for the clock."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.context = engine.context
        self.new_cache = engine.new_cache
        self.started: list[float] = []
        self.took: list[float] = []

    def run(self, steps: Sequence[Step], cancel: CancelToken | None = None) -> list[Logits]:
        start = time.perf_counter()
        try:
            logits: list[Logits] = self._engine.run(steps, cancel)
            return logits
        finally:
            self.started.append(start)
            self.took.append(time.perf_counter() - start)


@contextmanager
def _timed_picks() -> Iterator[list[float]]:
    took: list[float] = []
    pick = Sampler.pick

    def timed(self: Sampler, logits: Logits, history: Sequence[int]) -> int:
        start = time.perf_counter()
        id = pick(self, logits, history)
        took.append(time.perf_counter() - start)
        return id

    Sampler.pick = timed  # type: ignore[method-assign]
    try:
        yield took
    finally:
        Sampler.pick = pick  # type: ignore[method-assign]


def measure(
    source: str, engine: Any, vocab: int, tokenizer: Tokenizer, prompt: list[int], tokens: int, rounds: int
) -> list[Row]:
    """A row for each way, `rounds` answers of `tokens` tokens each."""
    costs = {way.name: Cost() for way in _ways(0)}
    for number in range(rounds + 1):
        ways = _ways(number)
        turn = number % len(ways)
        for way in ways[turn:] + ways[:turn]:
            # The first round pays for what is not in memory yet.
            cost = costs[way.name] if number else Cost()
            _answer(engine, vocab, tokenizer, prompt, tokens, way, cost)
    greedy = statistics.median(costs["greedy"].sample)
    rows = []
    for name, cost in costs.items():
        run, sample, python = (statistics.median(times) for times in (cost.run, cost.sample, cost.python))
        rows.append(Row(source, name, *(s * 1e6 for s in (run, sample, sample - greedy, python))))
    return rows


def _answer(
    engine: Any, vocab: int, tokenizer: Tokenizer, prompt: list[int], tokens: int, way: Way, cost: Cost
) -> None:
    watched = _Watched(engine)
    generation = Generation(
        Session(cast(Engine, watched)),
        lambda: tokenizer,
        prompt,
        vocab=vocab,
        sampling=way.sampling,
        limits=Limits(max_tokens=tokens, stop=way.stop),
    )
    with _timed_picks() as picked, generation:
        for _ in generation if way.text else generation.tokens():
            pass
    # The first token has its prefill before it, the last no run behind it.
    for at in range(1, len(picked) - 1):
        between = watched.started[at + 1] - watched.started[at]
        cost.run.append(watched.took[at])
        cost.sample.append(picked[at])
        cost.python.append(between - watched.took[at] - picked[at])


class _Synthetic:
    """Logits of no model, handed out as an engine does: each time in fresh memory."""

    context = _CONTEXT

    def __init__(self, rows: Logits) -> None:
        self._rows = rows
        self._next = 0

    def new_cache(self) -> Any:
        return _NoCache()

    def run(self, steps: Sequence[Step], cancel: CancelToken | None = None) -> list[Logits]:
        for step in steps:
            step.cache.reserve(len(step.tokens))
        self._next += 1
        return [self._rows[[self._next % len(self._rows)]] for _ in steps]


class _NoCache:
    def __init__(self) -> None:
        self.length = self.nbytes = 0

    def reserve(self, tokens: int) -> None:
        self.length += tokens

    def close(self) -> None:
        self.length = 0


def synthetic_logits(vocab: int, kind: str) -> Logits:
    """Float32 logits [16, vocab]: `peaked` as of a trained model, `flat` as of none."""
    random = np.random.default_rng(vocab)
    if kind == "flat":
        return random.standard_normal((_ROWS, vocab), np.float32)
    # A bulk far below, and a few ids that text can be made of, each a little less likely.
    rows = random.standard_normal((_ROWS, vocab), np.float32) * np.float32(3) - np.float32(20)
    for row in rows:
        ids = 2 + random.permutation(200)
        row[ids] = -1.5 * np.log1p(np.arange(200)) + random.standard_normal(200)
    return rows


def _tokenizer() -> Tokenizer:
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: id for id, token in enumerate(["<|begin|>", "<|end|>", *letters])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return Tokenizer(tokenizer.to_str())


def _print(rows: list[Row]) -> None:
    columns = ("engine run", "sampling", "over greedy", "Python")
    print(f"{'median us of a token':54}" + "".join(f"{column:>12}" for column in columns))
    for row in rows:
        values = (row.run_us, row.sample_us, row.over_greedy_us, row.python_us)
        print(f"{row.source:26}{row.way:28}" + "".join(f"{value:12.1f}" for value in values))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What a token costs beside the engine.")
    parser.add_argument("artifacts", nargs="*", type=Path, help="artifacts; none: synthetic logits")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer (64)")
    parser.add_argument("--rounds", type=int, default=7, help="answers of each way (7)")
    parser.add_argument("--engine", default="auto", help="engine of the artifacts (auto)")
    parser.add_argument("--threads", type=int, default=None, help="its threads")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    rows = []
    for path in args.artifacts:
        with edge.load(
            path, engine=args.engine, threads=args.threads, context=_CONTEXT, prefix_cache=0
        ) as model:
            prompt = model.encode(held_out_text()[:200])
            vocab = model.spec.vocab_size
            rows += measure(
                path.stem[:25], model.engine, vocab, model.tokenizer, prompt, args.tokens, args.rounds
            )
    if not args.artifacts:
        for vocab in VOCABULARIES:
            for kind in ("peaked", "flat"):
                engine = _Synthetic(synthetic_logits(vocab, kind))
                source = f"{kind}, {vocab:,} logits"
                rows += measure(source, engine, vocab, _tokenizer(), [2], args.tokens, args.rounds)
    if args.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        _print(rows)


if __name__ == "__main__":
    main()
