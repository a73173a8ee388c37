"""Log-probabilities of an engine over a text, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from export.evaluate.divergence import LogProbabilities, log_softmax
from runtimes import Engine, Step

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
