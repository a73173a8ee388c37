"""Admission: a plan against what this process may take now, or a refusal with its numbers."""

from __future__ import annotations

from edge.errors import MemoryBudgetError
from edge.memory.needs import Needs
from edge.memory.plan import Plan, checked_memory, make_plan
from edge.memory.probe import available_bytes
from edge.memory.size import parse_size
from edge.memory.suggest import suggestions
from edge.memory.usage import resident

_MIB = 1 << 20
_IMPORTED = 32 * _MIB


def admit(
    needs: Needs, memory: int | str, context: int | None, sessions: int, prefix_cache: int | str = "auto"
) -> Plan:
    """The plan of a load; `memory` and `prefix_cache` as `edge.load` takes them.

    Raises:
        InvalidArgument: a value out of range.
        MemoryBudgetError: it does not fit; nothing was loaded.
    """
    plan = make_plan(needs, _allowed(memory), context, sessions, sized(prefix_cache))
    check(plan)
    return plan


def sized(size: int | str) -> int | None:
    """Bytes of a size; None for `auto`.

    Raises:
        InvalidArgument: it is no size.
    """
    if isinstance(size, str):
        return None if size.lower() == "auto" else parse_size(size)
    return size


def check(plan: Plan) -> None:
    """Raises MemoryBudgetError where the plan does not fit, with its numbers and what would."""
    if plan.fits:
        return
    r = plan.required
    what = f"{plan.sessions} conversations" if plan.sessions > 1 else "a conversation"
    prefix = f"prefix cache {_mib(r.prefix_cache)}, " if r.prefix_cache else ""
    would = "; ".join(s.text for s in suggestions(plan)) or "free memory, or take a smaller model"
    raise MemoryBudgetError(
        f"{what} of {plan.context} tokens needs {_mib(r.total)} MiB (weights {_mib(r.weights)}, "
        f"KV {_mib(r.kv)}, workspace {_mib(r.workspace)}, runtime {_mib(r.runtime)}, {prefix}"
        f"reserve {_mib(r.reserve)}) and there are {plan.available // _MIB}; what would fit: {would}"
    )


def _mib(nbytes: int) -> str:
    """Rounded up: what is needed is never said to be there where it is not."""
    return str(-(-nbytes // _MIB))


def _allowed(memory: int | str) -> int:
    """Bytes for all of the plan: no more than there are, whatever the user allows."""
    # What the imports took is here already: the plan counts it, what is available does not. Mapped files are available.
    there = available_bytes() + min(resident().anonymous, _IMPORTED)
    if isinstance(memory, str):
        return there if memory.lower() == "auto" else min(parse_size(memory), there)
    return min(checked_memory(memory), there)
