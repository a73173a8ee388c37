"""Allocation: which precision each matrix has, so that all fit a number of bytes and cost the least KL.

Costs add up as long as they are small. Starting from the fewest bits, the step that saves the most KL a byte is taken,
along the lower convex hull of each matrix's options, until no step fits: the best there is at the sizes in between, but
for one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from export.quantize import Precision


@dataclass(frozen=True)
class Option:
    """A precision of one matrix: bytes, and expected KL in nats."""

    precision: Precision
    nbytes: int
    cost: float


@dataclass(frozen=True)
class Allocation:
    """A precision for each matrix, with what all take and are expected to cost."""

    precisions: Mapping[str, Precision]
    nbytes: int
    cost: float


def allocations(choices: Mapping[str, Sequence[Option]]) -> list[Allocation]:
    """All allocations from the smallest to the largest, each one step from the one before; the curve of size and KL."""
    hulls = {name: _hull(options) for name, options in choices.items()}
    at = dict.fromkeys(hulls, 0)
    steps = sorted(
        (
            ((hull[i].cost - hull[i + 1].cost) / (hull[i + 1].nbytes - hull[i].nbytes), name, i)
            for name, hull in hulls.items()
            for i in range(len(hull) - 1)
        ),
        key=lambda step: (-step[0], step[2]),
    )

    def now() -> Allocation:
        chosen = {name: hull[at[name]] for name, hull in hulls.items()}
        return Allocation(
            {name: option.precision for name, option in chosen.items()},
            sum(option.nbytes for option in chosen.values()),
            sum(option.cost for option in chosen.values()),
        )

    curve = [now()]
    for _, name, i in steps:
        # On a hull, steps of one matrix come in their order.
        at[name] = i + 1
        curve.append(now())
    return curve


def best_within(choices: Mapping[str, Sequence[Option]], nbytes: int) -> Allocation | None:
    """The allocation of least cost that takes at most `nbytes`; None where the smallest takes more."""
    curve = allocations(choices)
    if curve[0].nbytes > nbytes:
        return None
    best = max((a for a in curve if a.nbytes <= nbytes), key=lambda a: a.nbytes)
    # What is left may still hold a step of a small matrix.
    precisions, left, cost = dict(best.precisions), nbytes - best.nbytes, best.cost
    while True:
        steps = [
            ((mine.cost - option.cost) / (option.nbytes - mine.nbytes), name, mine, option)
            for name, options in choices.items()
            for mine in options
            if mine.precision == precisions[name]
            for option in options
            if mine.nbytes < option.nbytes <= mine.nbytes + left and option.cost < mine.cost
        ]
        if not steps:
            return Allocation(precisions, nbytes - left, cost)
        _, name, mine, option = max(steps, key=lambda step: step[0])
        precisions[name] = option.precision
        left -= option.nbytes - mine.nbytes
        cost += option.cost - mine.cost


def _hull(options: Sequence[Option]) -> list[Option]:
    """Options that are the cheapest for some price of a byte, from small to large."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda o: (o.nbytes, o.cost)):
        if hull and option.cost >= hull[-1].cost:
            continue
        while len(hull) > 1 and _gain(hull[-2], hull[-1]) <= _gain(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def _gain(a: Option, b: Option) -> float:
    return (a.cost - b.cost) / max(1, b.nbytes - a.nbytes)
