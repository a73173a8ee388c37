"""Buckets: the capacities that a cache may have, since an engine is built for each as a number."""

from __future__ import annotations

from collections.abc import Sequence

from edge.errors import ContextExceeded

SMALLEST = 128


def ladder(context: int, smallest: int = SMALLEST) -> tuple[int, ...]:
    """Capacities that double from `smallest` on, the last of them `context`: no more than half of one is idle."""
    found, capacity = [], smallest
    while capacity < context:
        found.append(capacity)
        capacity *= 2
    return (*found, context)


def bucket(capacities: Sequence[int], tokens: int) -> int:
    """The smallest capacity that holds `tokens`; 0 holds none, and nothing is taken for it.

    Raises:
        ContextExceeded: none does.
    """
    if not tokens:
        return 0
    holding = [capacity for capacity in capacities if capacity >= tokens]
    if not holding:
        raise ContextExceeded(
            f"{tokens} tokens do not fit the largest bucket of {max(capacities)}; "
            "shorten the prompt, or build engines for a larger one"
        )
    return min(holding)
