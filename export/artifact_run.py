"""An artifact as users run it: the same engine, operators and type of KV."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from types import TracebackType

import numpy as np

from edge.artifact import Artifact
from export.evaluate.divergence import LogProbabilities, log_softmax
from runtimes import Engine, Step, default_threads, open_engine

# Logits of a chunk in float64 stay below 80 MB with a vocabulary of 152,000.
CHUNK = 64


def log_probabilities(engine: Engine, ids: Sequence[int]) -> Iterator[LogProbabilities]:
    """Float64 [CHUNK, vocab] behind each of `ids`, read as one sequence a chunk at a time.

    Raises:
        ContextExceeded: there are more than the context holds.
    """
    cache = engine.new_cache()
    try:
        for start in range(0, len(ids), CHUNK):
            chunk = list(ids[start : start + CHUNK])
            yield log_softmax(engine.run([Step(chunk, cache, range(len(chunk)))])[0])
    finally:
        cache.close()


class ArtifactRun:
    """A context manager around the engine of an artifact, for sequences of up to `tokens`."""

    def __init__(self, artifact: Artifact, tokens: int) -> None:
        """Raises EngineError, ArtifactError, MissingExtra."""
        self.engine = open_engine(
            artifact, threads=default_threads(), context=min(tokens, artifact.spec.context)
        )

    @property
    def kv(self) -> str:
        """What keys and values are kept as."""
        return self.engine.kv[0].type

    def continued(self, prompt: Sequence[int], count: int, stop: Collection[int] = ()) -> list[int]:
        """`prompt` and the `count` likeliest tokens behind it, one by one; none behind one of `stop`."""
        ids = list(prompt)
        cache = self.engine.new_cache()
        try:
            logits = self.engine.run([Step(ids, cache, [len(ids) - 1])])[0]
            for _ in range(count):
                ids.append(int(np.argmax(logits[0])))
                if ids[-1] in stop:
                    break
                logits = self.engine.run([Step(ids[-1:], cache, [0])])[0]
        finally:
            cache.close()
        return ids

    def __enter__(self) -> ArtifactRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.close()
