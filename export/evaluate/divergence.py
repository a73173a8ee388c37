"""How far one model's predictions are from another's, over the same tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
LogProbabilities = NDArray[np.float64]

BLOCK = 64
"""Tokens of a stretch."""
_RESAMPLES = 1000
# Rows that are worked at together: what they need stays in the processor's cache.
_ROWS = 4


def log_softmax(logits: Logits) -> LogProbabilities:
    """Log-probabilities [n, vocab] of logits [n, vocab], in float64 whatever the logits are."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


class Divergence:
    """What is learned, chunk by chunk, about a model beside a reference.

    KL is taken from the reference to the model, in nats, at every token; perplexity over the tokens whose
    successor is known.
    """

    def __init__(self) -> None:
        self._kl: list[NDArray[np.float64]] = []
        self._agree: list[NDArray[np.bool_]] = []
        self._agree5: list[NDArray[np.float64]] = []
        self._reference_loss: list[NDArray[np.float64]] = []
        self._loss: list[NDArray[np.float64]] = []

    def add(self, reference: LogProbabilities, model: LogProbabilities, successors: Sequence[int]) -> None:
        """Count log-probabilities [n, vocab] of both behind n tokens.

        `successors` are the tokens that follow: n of them, or n - 1 where the text ends.
        """
        for start in range(0, len(reference), _ROWS):
            self._add(reference[start : start + _ROWS], model[start : start + _ROWS])
        rows, tokens = np.arange(len(successors)), np.asarray(successors, np.intp)
        self._reference_loss.append(-reference[rows, tokens])
        self._loss.append(-model[rows, tokens])

    def _add(self, reference: LogProbabilities, model: LogProbabilities) -> None:
        # Where the reference gives nothing (-inf), p log p is 0; numpy would say nan.
        gap = np.subtract(reference, model, out=np.zeros_like(reference), where=np.isfinite(reference))
        self._kl.append((np.exp(reference) * gap).sum(axis=-1))
        self._agree.append(reference.argmax(axis=-1) == model.argmax(axis=-1))
        self._agree5.append(_shared(reference, model, 5))

    @property
    def tokens(self) -> int:
        """Tokens behind which predictions were compared."""
        return sum(map(len, self._kl))

    @property
    def mean_kl(self) -> float:
        """Mean KL divergence in nats."""
        return float(np.concatenate(self._kl).mean())

    @property
    def median_kl(self) -> float:
        """Median KL divergence in nats."""
        return float(np.median(np.concatenate(self._kl)))

    @property
    def p99_kl(self) -> float:
        """The KL divergence in nats that 99 tokens of 100 stay below."""
        return float(np.quantile(np.concatenate(self._kl), 0.99))

    @property
    def top1(self) -> float:
        """Share of tokens behind which both hold the same token for the likeliest."""
        return float(np.concatenate(self._agree).mean())

    @property
    def max_kl(self) -> float:
        """The largest KL divergence in nats."""
        return float(np.concatenate(self._kl).max())

    @property
    def top5(self) -> float:
        """Share of the reference's five likeliest tokens that are among the model's."""
        return float(np.concatenate(self._agree5).mean())

    @property
    def by_token(self) -> NDArray[np.float64]:
        """The KL divergence in nats behind each token, in order."""
        return np.concatenate(self._kl)

    def confidence(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of mean_kl, top1_agreement and perplexity_ratio.

        By bootstrap over stretches of BLOCK tokens, since neighbours are alike (moving-block bootstrap, Künsch 1989),
        with a fixed seed.
        """
        gaps = [m - r for m, r in zip(self._loss, self._reference_loss, strict=True)]
        found = {}
        for name, parts, function in (
            ("mean_kl", self._kl, np.asarray),
            ("top1_agreement", self._agree, np.asarray),
            ("perplexity_ratio", gaps, np.exp),
        ):
            means = _resampled(np.concatenate(parts).astype(np.float64))
            low, high = function(np.quantile(means, (0.025, 0.975)))
            found[name] = (float(low), float(high))
        return found

    @property
    def reference_perplexity(self) -> float:
        """Perplexity of the reference."""
        return _perplexity(self._reference_loss)

    @property
    def perplexity(self) -> float:
        """Perplexity of the model."""
        return _perplexity(self._loss)


def _shared(reference: LogProbabilities, model: LogProbabilities, count: int) -> NDArray[np.float64]:
    """Of the `count` likeliest tokens of each row of the reference, the share that the model has too."""
    count = min(count, reference.shape[-1])
    theirs, ours = (np.argpartition(-x, count - 1, axis=-1)[:, :count] for x in (reference, model))
    return np.asarray((theirs[:, :, None] == ours[:, None, :]).any(axis=2).mean(axis=1), np.float64)


def _resampled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of resamples, each of stretches that together are as long."""
    if not len(values):
        return np.zeros(1)
    block = min(BLOCK, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    every = (sums[block:] - sums[:-block]) / block
    picks = np.random.default_rng(0).integers(0, len(every), (_RESAMPLES, max(1, len(values) // block)))
    return np.asarray(every[picks].mean(axis=1))


def _perplexity(losses: Sequence[NDArray[np.float64]]) -> float:
    try:
        return math.exp(np.concatenate(losses).mean())
    except OverflowError:
        return math.inf
