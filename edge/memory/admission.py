"""Admission: a plan against what this process may take now, or a refusal with its numbers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from edge.errors import MemoryBudgetError
from edge.memory.needs import Needs
from edge.memory.plan import Plan, Required, checked_memory, make_plan
from edge.memory.probe import available_bytes
from edge.memory.size import parse_size, size_text
from edge.memory.suggest import Suggestion, suggestions
from edge.memory.usage import resident

_MIB = 1 << 20
_IMPORTED = 32 * _MIB


def admit(
    needs: Needs,
    memory: int | str,
    context: int | None,
    sessions: int,
    prefix_cache: int | str = "auto",
    *,
    artifact: Path | None = None,
) -> Plan:
    """The plan of a load; `memory` and `prefix_cache` as `edge.load` takes them. On a card `memory` is of the card's.

    `artifact` is what refusals have commands for.

    Raises:
        InvalidArgument: a value out of range.
        MemoryBudgetError: it does not fit; nothing was loaded.
    """
    # What the imports took is here already: the plan counts it, what is available does not. Mapped files are available.
    system = available_bytes() + min(resident().anonymous, _IMPORTED)
    there, host = memories(needs, system)
    plan = make_plan(needs, _allowed(memory, there), context, sessions, sized(prefix_cache), host=host)
    check(plan, artifact)
    return plan


def memories(needs: Needs, system: int) -> tuple[int, int | None]:
    """Bytes of the memory that weights and KV are in, and of the host's, `system`, where that is another one."""
    if needs.card is None:
        return system, None
    # A plan is for 1 byte or more; where others have all of it nothing fits in that either.
    return max(1, needs.card), system


def sized(size: int | str) -> int | None:
    """Bytes of a size; None for `auto`.

    Raises:
        InvalidArgument: it is no size.
    """
    if isinstance(size, str):
        return None if size.lower() == "auto" else parse_size(size)
    return size


def check(plan: Plan, artifact: Path | None = None) -> None:
    """Raises MemoryBudgetError where the plan does not fit, with its numbers and what would."""
    if plan.fits:
        return
    what = f"{plan.sessions} conversations" if plan.sessions > 1 else "a conversation"
    what = f"{what} of {plan.context} tokens needs"
    if plan.host is not None and plan.required.total <= plan.available:
        raise MemoryBudgetError(
            f"beside the GPU's memory {what} {_parts(plan.host.required)} of the computer's, and there are "
            f"{plan.host.available // _MIB}; close other programs, or ask for a smaller prefix cache"
        )
    would = "; ".join(told(suggestion, artifact) for suggestion in suggestions(plan))
    if plan.host is None:
        there, else_ = f"there are {plan.available // _MIB}", "free memory, or take a smaller model"
    else:
        free, card = size_text(plan.available), plan.needs.card or 0
        there = (
            f"the GPU has {free} free"
            if plan.available >= card
            else f"{free} of the GPU's memory are allowed"
        )
        else_ = "close other programs that use the GPU, build for a smaller context, or take a smaller model"
    raise MemoryBudgetError(f"{what} {_parts(plan.required)} and {there}; what would fit: {would or else_}")


def told(suggestion: Suggestion, artifact: Path | None) -> str:
    """As a person would say it, with the command where one is needed."""
    how = suggestion.how(artifact) if artifact is not None else ""
    return f"{suggestion.text}{': ' * bool(how)}{how}"


def _parts(required: Required) -> str:
    """How much it is in all, and of what; what is not needed is left out."""
    names = ("weights", "KV", "workspace", "runtime", "prefix cache", "reserve")
    sizes = asdict(required).values()
    parts = ", ".join(f"{name} {_mib(nbytes)}" for name, nbytes in zip(names, sizes, strict=True) if nbytes)
    return f"{_mib(required.total)} MiB ({parts})"


def _mib(nbytes: int) -> str:
    """Rounded up: what is needed is never said to be there where it is not."""
    return str(-(-nbytes // _MIB))


def _allowed(memory: int | str, there: int) -> int:
    """Bytes for all of the plan: no more than are there, whatever the user allows."""
    if isinstance(memory, str):
        return there if memory.lower() == "auto" else min(parse_size(memory), there)
    return min(checked_memory(memory), there)
