"""What is asked of a generation: where it begins and what ends it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

from edge.cache.policy import AtLimit
from edge.errors import InvalidArgument


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What ends a generation besides the context."""

    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    at_limit: AtLimit = "stop"


def checked_tokens(tokens: Sequence[int], vocab: int) -> list[int]:
    """`tokens` as a list of ints.

    Raises:
        InvalidArgument: there are none, or one is no integer in [0, vocab).
    """
    checked = []
    for at, token in enumerate(tokens):
        try:
            id = operator.index(token)
        except TypeError:
            raise InvalidArgument(f"token {at} of the prompt is {token!r}; give whole numbers") from None
        if not 0 <= id < vocab:
            raise InvalidArgument(f"token {at} of the prompt is {id}; token ids run from 0 to {vocab - 1}")
        checked.append(id)
    if not checked:
        raise InvalidArgument("the prompt is empty: it has 0 tokens; give at least one character or token")
    return checked


def checked_max_tokens(value: int | None, room: int) -> int:
    """`max_tokens`, or as many as there is room for.

    Raises:
        InvalidArgument: below 1, or no integer.
    """
    if value is None:
        return room
    try:
        most = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        most = 0
    if most < 1:
        raise InvalidArgument(f"max_tokens is {value!r}; give a whole number, 1 or more")
    return min(most, room)
