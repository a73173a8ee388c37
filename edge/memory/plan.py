"""The plan: what a model needs beside what there is, made before anything is loaded and used for admission."""

from __future__ import annotations

import operator
from dataclasses import asdict, dataclass, replace

from edge.errors import InvalidArgument
from edge.memory.needs import Needs, largest_context

_MIB = 1 << 20
_LEAST_RESERVE, _MOST_RESERVE, _RESERVE_PART = 32 * _MIB, 512 * _MIB, 20
_PREFIX_PART = 8
_MOST_SESSIONS, _MOST_BYTES = 1 << 20, 1 << 60
LEAST_CONTEXT = 256
"""Tokens below which no conversation is worth a load; the model's own context where that is shorter."""


@dataclass(frozen=True, kw_only=True)
class Required:
    """Bytes by what they are for."""

    weights: int = 0
    kv: int = 0
    workspace: int = 0
    runtime: int = 0
    prefix_cache: int = 0
    reserve: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(asdict(self).values())


@dataclass(frozen=True, kw_only=True)
class Host:
    """What stays in the host's memory where weights and KV are on a card: `required` beside `available`, in bytes."""

    available: int
    required: Required

    @property
    def fits(self) -> bool:
        """Whether there is enough."""
        return self.required.total <= self.available


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`required` beside `available`, both in bytes, for `sessions` conversations of `context` tokens each.

    Where weights and KV are on a card it is the card's memory, and `host` the other, if that is known.
    """

    needs: Needs
    available: int
    context: int
    sessions: int
    required: Required
    max_context: int
    """Tokens that each conversation could have; 0 where not even the weights fit."""
    host: Host | None = None

    @property
    def fits(self) -> bool:
        """Whether there is enough."""
        return self.required.total <= self.available and (self.host is None or self.host.fits)

    @property
    def prefix_cache(self) -> int:
        """Bytes of the prefix cache, which is in the host's memory."""
        return (self.host or self).required.prefix_cache

    @property
    def kv_budget(self) -> int:
        """Bytes that all KV may take, the prefix cache's too if it is there: what everything else leaves."""
        return max(0, self.available - self.required.total + self.required.kv + self.required.prefix_cache)


def make_plan(
    needs: Needs,
    available: int,
    context: int | None = None,
    sessions: int = 1,
    prefix_cache: int | None = None,
    reserve: int | None = None,
    host: int | None = None,
) -> Plan:
    """The plan for `context` tokens, by default as many as fit, and the least that is worth it where none do.

    The prefix cache has `prefix_cache` bytes; None gives it one conversation's KV, as far as nothing else wants it.
    `reserve` bytes are left to the system; None is a twentieth of `available`, from 32 to 512 MiB. `available` is of
    the memory that weights and KV are in, and `host` of the host's where that is another. What stays in the host's
    is left out where they are on a card and `host` is not known.

    Raises:
        InvalidArgument: `context` is not from 1 to what the model or its engines take, `sessions` or `available`
            below 1.
    """
    longest = needs.longest
    if context is not None:
        context = _whole("context", context, longest, _takes(needs))
    sessions = _whole("sessions", sessions, _MOST_SESSIONS, f"give 1 or more, at most {_MOST_SESSIONS}")
    available = checked_memory(available)
    reserve = own_reserve(available) if reserve is None else reserve
    prefix = 0 if prefix_cache is None else checked_bytes("prefix_cache", prefix_cache)
    around = Required(runtime=needs.runtime, prefix_cache=prefix)
    alone = host is not None or needs.card is not None
    here = Required() if alone else around
    most = largest_context(needs, available - needs.weights - here.total - reserve, sessions)
    chosen = context if context is not None else max(most, min(LEAST_CONTEXT, longest))
    conversation = needs.kv(chosen) if prefix_cache is None and needs.shares_prefixes else 0
    required = replace(
        here,
        weights=needs.weights,
        kv=sessions * needs.kv(chosen),
        workspace=needs.workspace(chosen),
        reserve=reserve,
    )
    on_host = None
    if not alone:
        required = _with_prefix(required, available, conversation)
    elif host is not None:
        own = replace(around, workspace=needs.pinned, reserve=own_reserve(host))
        on_host = Host(available=host, required=_with_prefix(own, host, conversation))
    return Plan(
        needs=needs,
        available=available,
        context=chosen,
        sessions=sessions,
        required=required,
        max_context=most,
        host=on_host,
    )


def _with_prefix(required: Required, available: int, conversation: int) -> Required:
    """With what nothing else wants for the prefix cache, a `conversation` at most; as it is where that is 0."""
    left = max(0, available - required.total)
    more = min(left, conversation, available // _PREFIX_PART)
    return replace(required, prefix_cache=required.prefix_cache + more)


def _takes(needs: Needs) -> str:
    if needs.longest == needs.spec.context:
        return f"this model takes from 1 to {needs.longest} tokens"
    return (
        f"the engines built for it take from 1 to {needs.longest} tokens and the model {needs.spec.context}; build one "
        "for more with: edge build ARTIFACT --target TARGET --context TOKENS"
    )


def own_reserve(available: int) -> int:
    """Bytes that are left to the system where no board says how many."""
    return min(_MOST_RESERVE, max(_LEAST_RESERVE, available // _RESERVE_PART))


def checked_memory(memory: object) -> int:
    """Bytes, 1 or more.

    Raises:
        InvalidArgument
    """
    return _whole("memory", memory, _MOST_BYTES, "give auto, bytes from 1 on, or a size such as 6GiB")


def checked_bytes(name: str, value: object) -> int:
    """Bytes, 0 or more.

    Raises:
        InvalidArgument
    """
    expected = "give auto, bytes from 0 on, or a size such as 1GiB"
    return _whole(name, value, _MOST_BYTES, expected, least=0)


def _whole(name: str, value: object, most: int, expected: str, least: int = 1) -> int:
    """`value`, a whole number from `least` to `most`, of whatever integer type."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if not least <= number <= most:
        raise InvalidArgument(f"{name} is {value!r:.40}; {expected}")
    return number
