"""Logits of a prompt and of single steps behind it, from any engine; needs nothing but the slim runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.artifact import open_artifact
from runtimes import open_engine
from runtimes.protocol import Engine, Step

Logits = NDArray[np.float32]


@contextmanager
def opened(artifact: Path, threads: int = 1) -> Iterator[Engine]:
    """The engine of the artifact at a path, closed at the end."""
    engine = open_engine(open_artifact(artifact), threads=threads)
    try:
        yield engine
    finally:
        engine.close()


def engine_logits(engine: Engine, tokens: Sequence[int], prompt: int) -> Logits:
    """`prompt` tokens in one run, the others each in its own, on one cache: float32 [tokens, vocab]."""
    cache = engine.new_cache()
    parts = engine.run([Step(tokens[:prompt], cache, range(prompt))])
    for token in tokens[prompt:]:
        parts += engine.run([Step([token], cache, [0])])
    assert cache.length == len(tokens)
    cache.close()
    return np.concatenate(parts)


def relative_error(ours: Logits, theirs: Logits) -> float:
    """max|difference| ÷ max|theirs|."""
    assert ours.shape == theirs.shape
    assert np.isfinite(ours).all()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
