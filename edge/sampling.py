"""Choosing the next token as Hugging Face's logits processors do, without sorting the vocabulary."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EngineFailed, InvalidArgument

# Colder than this float32 cannot divide by; the likeliest token has all the weight long before.
_COLDEST = 1e-6
# Larger parameters act as this does, which float32 still holds.
_HUGE = 1e30
_LARGEST = float(np.finfo(np.float32).max)
# Tokens below `share` / vocabulary of the likeliest are left out before the arithmetic: its weight is 1, and theirs are
# less than `share` all together. On the first share top_k and top_p seldom depend, and where they do, the second is
# taken: half the last bit of a float32 1, lost in rounding anyway.
_FEW = 2.0**-17
_LOST = 2.0**-24
_CERTAIN = np.ones(1, np.float32)
_CERTAIN.setflags(write=False)
# A running sum over the vocabulary is slow, sums of blocks are not.
_BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy: the likeliest token, the first of equals.

    Raises:
        InvalidArgument: a value out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    """Only the k likeliest tokens and those as likely as the last of them; 0 is off."""
    top_p: float = 1.0
    """Only the likeliest tokens that together reach this probability; 1 is off."""
    min_p: float = 0.0
    """Only tokens at least this many times as likely as the likeliest; 0 is off."""
    repetition_penalty: float = 1.0
    """Divides positive logits of tokens said before, prompt included, multiplies negative ones; 1 is off."""
    seed: int | None = None
    """The same seed gives the same choices; None is a new one every time."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these token ids."""

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, lambda v: v >= 0, "0 (greedy) or more")
        _check_number("top_p", self.top_p, lambda v: 0 < v <= 1, "above 0 and at most 1 (off)")
        _check_number("min_p", self.min_p, lambda v: 0 <= v < 1, "0 (off) or more, and below 1")
        _check_number("repetition_penalty", self.repetition_penalty, lambda v: v > 0, "above 0; 1 is off")
        if not _is_integer(self.top_k) or self.top_k < 0:
            raise InvalidArgument(f"top_k is {self.top_k!r}; give a whole number, 0 (off) or more")
        if self.seed is not None and (not _is_integer(self.seed) or self.seed < 0):
            raise InvalidArgument(f"seed is {self.seed!r}; give a whole number, 0 or more")
        if not isinstance(self.logit_bias, Mapping):
            raise InvalidArgument(
                f"logit_bias is {self.logit_bias!r}; give a mapping from token ids to numbers"
            )
        for id, bias in self.logit_bias.items():
            if not _is_integer(id) or not _is_number(bias) or not math.isfinite(bias):
                raise InvalidArgument(
                    f"logit_bias has {id!r}: {bias!r}; give token ids and finite numbers to add to the logits"
                )

    def check_vocabulary(self, vocab: int) -> None:
        """Check that every token id is below `vocab`.

        Raises:
            InvalidArgument: a `logit_bias` for a token that is none.
        """
        for id in self.logit_bias:
            if not 0 <= id < vocab:
                raise InvalidArgument(f"logit_bias names token {id}; token ids run from 0 to {vocab - 1}")


SAMPLING_NAMES = tuple(f.name for f in fields(Sampling))


class Sampler:
    """Picks tokens by one Sampling; holds the state of its random generator.

    Raises:
        InvalidArgument: see `Sampling.check_vocabulary`.
    """

    def __init__(self, sampling: Sampling, vocab: int) -> None:
        sampling.check_vocabulary(vocab)
        self.sampling = sampling
        self.vocab = vocab
        self._random = np.random.Generator(np.random.PCG64(sampling.seed))
        self._bias_ids = np.fromiter(sampling.logit_bias.keys(), np.int64)
        bias = np.fromiter(sampling.logit_bias.values(), np.float64)
        self._bias = np.clip(bias, -_HUGE, _HUGE).astype(np.float32)
        self._penalty = np.float32(min(max(sampling.repetition_penalty, 1 / _HUGE), _HUGE))
        # Kept, since fresh memory of this size costs more than the arithmetic done in it.
        changes = len(self._bias_ids) > 0 or self._penalty != 1
        self._changed = np.empty(vocab if changes else 0, np.float32)
        self._scores = np.empty(vocab, np.float32)
        self._likely = np.empty(vocab, np.bool_)

    def pick(self, logits: NDArray[np.float32], history: Sequence[int]) -> int:
        """The next token, given float32 logits [vocab] and every token before it.

        Raises:
            EngineFailed: the logits are no numbers.
        """
        ids, weights = self.candidates(logits, history)
        return int(ids[0] if len(ids) == 1 else ids[_draw(weights, self._random.random())])

    def candidates(
        self, logits: NDArray[np.float32], history: Sequence[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids that may be picked and their weights, the likeliest 1, both [n]; good until the next call.

        Raises:
            EngineFailed: the logits are no numbers.
        """
        sampling = self.sampling
        logits = self._processed(logits, history)
        best = int(logits.argmax())
        top = float(logits[best])
        if not math.isfinite(top):  # argmax finds the first NaN
            raise EngineFailed(
                f"the logit of token {best} is {top}; check the artifact with: edge verify, "
                "then report the model"
            )
        if sampling.temperature < _COLDEST:
            return np.array([best]), _CERTAIN

        sure = False
        if sampling.top_k > 0 or sampling.top_p < 1:
            ids, weights, sure = self._chosen(logits, top, _FEW)
        if not sure:
            ids, weights, _ = self._chosen(logits, top, _LOST)
        if sampling.min_p > 0:
            kept = (weights >= np.float32(sampling.min_p)).nonzero()[0]
            ids, weights = ids[kept], weights[kept]
        return ids, weights

    def _chosen(
        self, logits: NDArray[np.float32], top: float, share: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], bool]:
        """Ids that top_k and top_p keep, their weights, and whether tokens beyond `share` could not change them."""
        sampling = self.sampling
        temperature = float(min(sampling.temperature, _HUGE))
        ids = self._above(logits, top - temperature * math.log(self.vocab / share))
        if ids is None:
            scores = self._scores
            with np.errstate(over="ignore"):  # minus infinity is as good as the number it stands for
                np.subtract(logits, top, out=scores)
                np.divide(scores, temperature, out=scores)
        else:
            scores = logits[ids]
            scores -= top  # at most 0, so that exp cannot overflow
            scores /= temperature
        beyond = 0.0 if ids is None or 0 < sampling.top_k <= len(ids) else share
        if 0 < sampling.top_k < len(scores):
            least = np.partition(scores, -sampling.top_k)[-sampling.top_k]
            kept = (scores >= least).nonzero()[0]
            ids, scores = kept if ids is None else ids[kept], scores[kept]
        weights = np.exp(scores, out=scores)
        sure = beyond == 0
        if sampling.top_p < 1:
            kept, sure = _top_p(weights, float(sampling.top_p), beyond)
            ids, weights = kept if ids is None else ids[kept], weights[kept]
        return np.arange(self.vocab) if ids is None else ids, weights, sure

    def _above(self, logits: NDArray[np.float32], least: float) -> NDArray[np.intp] | None:
        """Ids of logits of at least `least`, and perhaps some just below; None where it pays to take them all."""
        # Lower by what rounding to float32 could add.
        least = max(least - 2**-23 * abs(least), -_LARGEST)
        np.greater_equal(logits, np.float32(least), out=self._likely)
        if np.count_nonzero(self._likely) > len(logits) // 3:  # gathering them would cost more than it spares
            return None
        return self._likely.nonzero()[0]

    def _processed(self, logits: NDArray[np.float32], history: Sequence[int]) -> NDArray[np.float32]:
        if not len(self._changed):
            return logits
        np.copyto(self._changed, logits)
        logits = self._changed
        if len(self._bias_ids):
            logits[self._bias_ids] += self._bias
        penalty = self._penalty
        if penalty != 1 and len(history):
            seen = np.asarray(history)
            values = logits[seen]
            with np.errstate(over="ignore"):
                values = np.where(values < 0, values * penalty, values / penalty)
            np.maximum(values, -_LARGEST, out=values)
            logits[seen] = np.minimum(values, _LARGEST, out=values)
        return logits


def _top_p(weights: NDArray[np.float32], top_p: float, beyond: float) -> tuple[NDArray[np.intp], bool]:
    """Indices of the likeliest weights: each for which the sum of those before it is below `top_p` of all.

    Of equal weights the first comes first, as for greedy; transformers leaves that open. And whether they are
    the same if there are unlikelier weights besides, up to `beyond` in sum.
    """
    total = float(weights.sum(dtype=np.float64))
    # Weights this small sum to at most 1 - top_p of all together, so none of them is wanted.
    pool: NDArray[np.intp] = (weights > (1 - top_p) * total / len(weights) * (1 - 1e-6)).nonzero()[0]
    some = weights[pool]
    falling = np.sort(some)[::-1]
    sums = falling.cumsum(dtype=np.float64)
    before = int(sums.searchsorted(top_p * total))
    sure = beyond == 0 or before == sums.searchsorted(top_p * (total + beyond)) < len(sums)
    wanted = min(before + 1, len(sums))
    least = falling[wanted - 1]
    kept = (some >= least).nonzero()[0]
    if len(kept) > wanted:  # of those as likely as the least, the last are too many
        equal = (some[kept] == least).nonzero()[0]
        kept = np.delete(kept, equal[wanted - len(kept) :])
    return pool[kept], bool(sure)


def _draw(weights: NDArray[np.float32], uniform: float) -> int:
    """An index, each as likely as its weight, chosen by `uniform` in [0, 1)."""
    start = 0
    if len(weights) > _BLOCK:
        blocks = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)).cumsum(dtype=np.float64)
        target = min(uniform * blocks[-1], np.nextafter(blocks[-1], 0))
        block = int(blocks.searchsorted(target, side="right"))
        before = blocks[block - 1] if block else 0.0
        uniform = (target - before) / (blocks[block] - before)
        start = block * _BLOCK
        weights = weights[start : start + _BLOCK]
    sums = weights.cumsum(dtype=np.float64)
    at = int(sums.searchsorted(uniform * sums[-1], side="right"))
    if at == len(sums):  # rounding: one that has weight must come
        at = int(weights.nonzero()[0][-1])
    return start + at


def _check_number(name: str, value: Any, allowed: Callable[[Any], bool], range_: str) -> None:
    if not _is_number(value) or not math.isfinite(value) or not allowed(value):
        raise InvalidArgument(f"{name} is {value!r}; give a number {range_}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)
