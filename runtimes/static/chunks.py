"""Chunks: the calls that the tokens of a step are cut into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Profile:
    """What one call may be given: `tokens`, of which `logits` are wanted, at most."""

    tokens: int
    logits: int


@dataclass(frozen=True)
class Chunk:
    """Tokens [start, stop) of a step; logits are wanted at `positions` of the chunk, each of them once.

    `rows` are those of the step's logits that they are for, and `of` which position each row is.
    """

    start: int
    stop: int
    positions: NDArray[np.int64]
    rows: NDArray[np.int64]
    of: NDArray[np.int64]


def chunks(tokens: int, wanted: Sequence[int], profile: Profile) -> Iterator[Chunk]:
    """Cut `tokens` so that no chunk has more of them, nor more logits wanted, than `profile` holds."""
    asked = np.asarray(wanted, np.int64)
    positions = np.unique(asked)
    start = 0
    while start < tokens:
        stop = min(tokens, start + profile.tokens)
        inside = positions[(positions >= start) & (positions < stop)]
        if len(inside) > profile.logits:
            stop = int(inside[profile.logits])
            inside = inside[: profile.logits]
        rows = np.flatnonzero((asked >= start) & (asked < stop))
        yield Chunk(start, stop, inside - start, rows, np.searchsorted(inside, asked[rows]))
        start = stop
