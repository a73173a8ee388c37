"""The plan: what a model needs beside what there is, made before anything is loaded and used for admission."""

from __future__ import annotations

import operator
from dataclasses import asdict, dataclass

from edge.errors import InvalidArgument
from edge.memory.needs import Needs, largest_context

_MIB = 1 << 20
_LEAST_RESERVE, _MOST_RESERVE, _RESERVE_PART = 32 * _MIB, 512 * _MIB, 20
_MOST_SESSIONS, _MOST_BYTES = 1 << 20, 1 << 60
LEAST_CONTEXT = 256
"""Tokens below which no conversation is worth a load; the model's own context where that is shorter."""


@dataclass(frozen=True, kw_only=True)
class Required:
    """Bytes by what they are for."""

    weights: int
    kv: int
    workspace: int
    runtime: int
    prefix_cache: int
    reserve: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(asdict(self).values())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`required` beside `available`, both in bytes, for `sessions` conversations of `context` tokens each."""

    needs: Needs
    available: int
    context: int
    sessions: int
    required: Required
    max_context: int
    """Tokens that each conversation could have; 0 where not even the weights fit."""

    @property
    def fits(self) -> bool:
        """Whether there is enough."""
        return self.required.total <= self.available

    @property
    def kv_budget(self) -> int:
        """Bytes that all KV may take: what everything else leaves."""
        return max(0, self.available - self.required.total + self.required.kv)


def make_plan(needs: Needs, available: int, context: int | None = None, sessions: int = 1) -> Plan:
    """The plan for `context` tokens, by default as many as fit, and the least that is worth it where none do.

    Raises:
        InvalidArgument: `context` is not from 1 to the model's, `sessions` or `available` below 1.
    """
    longest = needs.spec.context
    if context is not None:
        context = _whole("context", context, longest, f"this model takes from 1 to {longest} tokens")
    sessions = _whole("sessions", sessions, _MOST_SESSIONS, f"give 1 or more, at most {_MOST_SESSIONS}")
    available = checked_memory(available)
    reserve = min(_MOST_RESERVE, max(_LEAST_RESERVE, available // _RESERVE_PART))
    most = largest_context(needs, available - needs.weights - needs.runtime - reserve, sessions)
    chosen = context if context is not None else max(most, min(LEAST_CONTEXT, longest))
    required = Required(
        weights=needs.weights,
        kv=sessions * needs.kv(chosen),
        workspace=needs.workspace(chosen),
        runtime=needs.runtime,
        prefix_cache=0,
        reserve=reserve,
    )
    return Plan(
        needs=needs,
        available=available,
        context=chosen,
        sessions=sessions,
        required=required,
        max_context=most,
    )


def checked_memory(memory: object) -> int:
    """Bytes, 1 or more.

    Raises:
        InvalidArgument
    """
    return _whole("memory", memory, _MOST_BYTES, "give auto, bytes from 1 on, or a size such as 6GiB")


def _whole(name: str, value: object, most: int, expected: str) -> int:
    """`value`, a whole number from 1 to `most`, of whatever integer type."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if not 1 <= number <= most:
        raise InvalidArgument(f"{name} is {value!r:.40}; {expected}")
    return number
