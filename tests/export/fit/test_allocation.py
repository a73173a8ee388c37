"""Bits where they matter: never over the target, and close to the best there is."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import InvalidArgument
from export.fit.allocation import Option, allocations, best_within
from export.fit.target import parse_size
from export.quantize import Precision

PRECISIONS = [Precision(bits, 32) for bits in (4, 5, 6, 8)]


@st.composite
def choices(draw: st.DrawFn) -> dict[str, list[Option]]:
    """A few matrices: more bits take more bytes, and cost a part of what fewer do."""
    found = {}
    for name in "abc"[: draw(st.integers(1, 3))]:
        size, cost = draw(st.integers(1, 50)), draw(st.floats(0, 1))
        options = []
        for precision in PRECISIONS:
            options.append(Option(precision, size * precision.bits, cost))
            cost *= draw(st.floats(0.05, 0.9))
        found[name] = options
    return found


@given(choices(), st.floats(0.9, 2.2))
def test_beside_every_combination(options: dict[str, list[Option]], times: float) -> None:
    least = sum(min(option.nbytes for option in each) for each in options.values())
    limit = int(least * times)
    found = best_within(options, limit)
    every = [
        (sum(o.nbytes for o in picked), sum(o.cost for o in picked)) for picked in product(*options.values())
    ]
    possible = [cost for nbytes, cost in every if nbytes <= limit]
    assert (found is None) == (not possible)
    if found is None:
        return
    assert found.nbytes <= limit
    assert found.nbytes == sum(
        option.nbytes
        for name, each in options.items()
        for option in each
        if option.precision == found.precisions[name]
    )
    # A step that does not fit is the most that is lost.
    steps = [max(o.cost for o in each) - min(o.cost for o in each) for each in options.values()]
    assert found.cost <= min(possible) + max(steps) + 1e-9


@given(choices())
def test_the_curve_falls(options: dict[str, list[Option]]) -> None:
    curve = allocations(options)
    assert all(a.nbytes < b.nbytes and a.cost >= b.cost for a, b in pairwise(curve))


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("900MB", 900_000_000), ("1.5 GiB", 3 << 29), ("77kb", 77_000), ("1234", 1234), (" 2gb ", 2 * 10**9)],
)
def test_sizes(text: str, nbytes: int) -> None:
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "MB", "0MB", "-3MB", "9TB", "nan", "1e9MB", "9" * 40])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument, match="give a number with a unit, such as 900MB"):
        parse_size(text)
