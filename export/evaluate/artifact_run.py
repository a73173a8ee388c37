"""An artifact as users run it: the same engine, operators and type of KV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np

from edge.artifact import Artifact
from export.evaluate.divergence import LogProbabilities, log_softmax
from runtimes import Step, default_threads, open_engine

# Logits of a chunk in float64 stay below 80 MB with a vocabulary of 152,000.
CHUNK = 64


class ArtifactRun:
    """A context manager around the engine of an artifact, for sequences of up to `tokens`."""

    def __init__(self, artifact: Artifact, tokens: int) -> None:
        """Raises EngineError, ArtifactError, MissingExtra."""
        self._engine = open_engine(
            artifact, threads=default_threads(), context=min(tokens, artifact.spec.context)
        )

    @property
    def kv(self) -> str:
        """What keys and values are kept as."""
        return self._engine.kv[0].type

    def log_probabilities(self, window: Sequence[int]) -> Iterator[LogProbabilities]:
        """Float64 [CHUNK, vocab] behind each token of one sequence, a chunk at a time."""
        cache = self._engine.new_cache()
        try:
            for start in range(0, len(window), CHUNK):
                part = list(window[start : start + CHUNK])
                yield log_softmax(self._engine.run([Step(part, cache, range(len(part)))])[0])
        finally:
            cache.close()

    def continued(self, prompt: Sequence[int], count: int) -> list[int]:
        """`prompt` and the `count` likeliest tokens behind it, one by one."""
        ids = list(prompt)
        cache = self._engine.new_cache()
        try:
            logits = self._engine.run([Step(ids, cache, [len(ids) - 1])])[0]
            for _ in range(count):
                ids.append(int(np.argmax(logits[0])))
                logits = self._engine.run([Step(ids[-1:], cache, [0])])[0]
        finally:
            cache.close()
        return ids

    def __enter__(self) -> ArtifactRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.close()
