"""Admission: a plan against what this process may take now, or a refusal with its numbers."""

from __future__ import annotations

from edge.errors import InvalidArgument
from edge.memory.needs import Needs
from edge.memory.plan import Plan, make_plan
from edge.memory.probe import available_bytes
from edge.memory.size import parse_size
from edge.memory.usage import resident


def admit(needs: Needs, memory: int | str, context: int | None, sessions: int) -> Plan:
    """The plan of a load; `memory` as `edge.load` takes it.

    Raises:
        InvalidArgument: a value out of range.
        MemoryBudgetError: it does not fit; nothing was loaded.
    """
    plan = make_plan(needs, _allowed(needs, memory), context, sessions)
    plan.check()
    return plan


def _allowed(needs: Needs, memory: int | str) -> int:
    """Bytes for all of the plan: no more than there are, whatever the user allows."""
    if isinstance(memory, bool) or not isinstance(memory, (int, str)):
        raise InvalidArgument(f"memory is {memory!r}; give auto, a number of bytes or a size such as 6GiB")
    # Interpreter and libraries are here already, in part: the plan counts them, what is available does not.
    now = resident()
    there = available_bytes() + min(now.anonymous + now.file, needs.runtime)
    if memory == "auto":
        return there
    wanted = parse_size(memory) if isinstance(memory, str) else memory
    return min(wanted, there)
