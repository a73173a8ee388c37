"""How far one model's predictions are from another's, over the same tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
LogProbabilities = NDArray[np.float64]


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
        self._reference_loss: list[NDArray[np.float64]] = []
        self._loss: list[NDArray[np.float64]] = []

    def add(self, reference: LogProbabilities, model: LogProbabilities, successors: Sequence[int]) -> None:
        """Count log-probabilities [n, vocab] of both behind n tokens.

        `successors` are the tokens that follow: n of them, or n - 1 where the text ends.
        """
        # Where the reference gives nothing (-inf), p log p is 0; numpy would say nan.
        gap = np.subtract(reference, model, out=np.zeros_like(reference), where=np.isfinite(reference))
        self._kl.append((np.exp(reference) * gap).sum(axis=-1))
        self._agree.append(reference.argmax(axis=-1) == model.argmax(axis=-1))
        rows, tokens = np.arange(len(successors)), np.asarray(successors, np.intp)
        self._reference_loss.append(-reference[rows, tokens])
        self._loss.append(-model[rows, tokens])

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
    def reference_perplexity(self) -> float:
        """Perplexity of the reference."""
        return _perplexity(self._reference_loss)

    @property
    def perplexity(self) -> float:
        """Perplexity of the model."""
        return _perplexity(self._loss)


def _perplexity(losses: Sequence[NDArray[np.float64]]) -> float:
    try:
        return math.exp(np.concatenate(losses).mean())
    except OverflowError:
        return math.inf
