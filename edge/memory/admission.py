"""Admission: a plan against what this process may take now, or a refusal with its numbers."""

from __future__ import annotations

from edge.memory.needs import Needs
from edge.memory.plan import Plan, checked_memory, make_plan
from edge.memory.probe import available_bytes
from edge.memory.size import parse_size
from edge.memory.usage import resident

_IMPORTED = 32 << 20


def admit(needs: Needs, memory: int | str, context: int | None, sessions: int) -> Plan:
    """The plan of a load; `memory` as `edge.load` takes it.

    Raises:
        InvalidArgument: a value out of range.
        MemoryBudgetError: it does not fit; nothing was loaded.
    """
    plan = make_plan(needs, _allowed(memory), context, sessions)
    plan.check()
    return plan


def _allowed(memory: int | str) -> int:
    """Bytes for all of the plan: no more than there are, whatever the user allows."""
    # What the imports took is here already: the plan counts it, what is available does not. Mapped files are available.
    there = available_bytes() + min(resident().anonymous, _IMPORTED)
    if isinstance(memory, str):
        return there if memory.lower() == "auto" else min(parse_size(memory), there)
    return min(checked_memory(memory), there)
