"""Steps of several sequences packed into calls: tokens one sequence behind the other, a chunk a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.onnxruntime.engine import CHUNK
from runtimes.protocol import Step


@dataclass(frozen=True)
class Piece:
    """`count` tokens of step number `step`."""

    step: int
    count: int


@dataclass(frozen=True)
class Call:
    """One run of the graph."""

    pieces: tuple[Piece, ...]
    tokens: NDArray[np.int64]
    starts: NDArray[np.int32]
    """Where the tokens of each piece begin, and where the last end."""
    positions: NDArray[np.int64]
    """The tokens whose logits are wanted."""
    logits: tuple[tuple[int, int], ...]
    """Of each of these: the step, and which of its results."""


def calls_of(steps: Sequence[Step]) -> Iterator[Call]:
    """Calls of at most CHUNK tokens that run all steps; each sequence's tokens in their order."""
    done = [0] * len(steps)
    while any(n < len(step.tokens) for n, step in zip(done, steps, strict=True)):
        pieces: list[Piece] = []
        room = CHUNK
        for i, step in enumerate(steps):
            count = min(room, len(step.tokens) - done[i])
            if count:
                pieces.append(Piece(i, count))
                room -= count
        yield _call(steps, pieces, done)
        for piece in pieces:
            done[piece.step] += piece.count


def _call(steps: Sequence[Step], pieces: Sequence[Piece], done: Sequence[int]) -> Call:
    starts = np.cumsum([0, *(piece.count for piece in pieces)], dtype=np.int32)
    tokens: list[int] = []
    wanted: list[tuple[int, int, int]] = []
    for piece, start in zip(pieces, starts.tolist(), strict=False):
        step, first = steps[piece.step], done[piece.step]
        tokens.extend(step.tokens[first : first + piece.count])
        for index, position in enumerate(step.logits_at):
            if first <= position < first + piece.count:
                wanted.append((start + position - first, piece.step, index))
    return Call(
        tuple(pieces),
        np.array(tokens, np.int64),
        starts,
        np.array([position for position, _, _ in wanted], np.int64),
        tuple((step, index) for _, step, index in wanted),
    )
