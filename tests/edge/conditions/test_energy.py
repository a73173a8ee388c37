"""Energy over time, against sums done another way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.conditions.energy import MOST_GAP, Counter, Gauge

# Steps of a clock, and watts at each.
STEPS = st.lists(st.tuples(st.floats(0.001, MOST_GAP * 0.99), st.floats(0, 300)), min_size=2, max_size=40)


def test_a_gauge_is_a_straight_line_from_each_reading_to_the_next() -> None:
    gauge = Gauge()
    for time, watts in ((10.0, 4.0), (11.0, 6.0), (12.0, 2.0)):
        gauge.add(time, watts)
    assert gauge.between(10.0, 12.0) == 5.0 + 4.0
    assert gauge.between(11.0, 12.0) == 4.0
    assert gauge.between(10.5, 11.0) == 2.5  # half of what was taken in between


@given(STEPS, st.data())
def test_parts_add_up_to_the_whole(steps: list[tuple[float, float]], data: st.DataObject) -> None:
    gauge, counter = Gauge(), Counter(1e-6, 10**9)
    time, count = 0.0, 0
    times, whole, last = [], 0.0, 0.0
    for step, watts in steps:
        time += step
        if times:
            whole += step * (watts + last) / 2
            count += int(step * watts * 1e6)
        last = watts
        times.append(time)
        gauge.add(time, watts)
        counter.add(time, count % 10**9)
    assert gauge.between(times[0], times[-1]) == pytest.approx(whole)
    assert counter.between(times[0], times[-1]) == pytest.approx(count * 1e-6)
    at = data.draw(st.floats(times[0], times[-1]))
    for energy in (gauge, counter):
        parts = (energy.between(times[0], at), energy.between(at, times[-1]))
        assert None not in parts
        assert sum(part or 0.0 for part in parts) == pytest.approx(energy.between(times[0], times[-1]))


def test_what_was_not_read_is_not_known() -> None:
    gauge = Gauge()
    assert (gauge.between(0, 1), gauge.fault(0, 1)) == (None, "there was no reading")
    for time, watts in ((1.0, 5.0), (2.0, None), (2.9, 5.0), (6.0, 5.0), (7.0, 5.0)):
        gauge.add(time, watts)
    assert gauge.between(1.0, 2.9) == 9.5  # a reading that failed in between
    assert (gauge.between(2.9, 6.0), gauge.fault(2.9, 6.0)) == (None, "there was no reading for 3.1 s")
    assert (gauge.between(1.0, 7.0), gauge.between(6.0, 7.0)) == (None, 5.0)
    assert gauge.fault(0.5, 2.0) == "there was no reading at its start"
    assert gauge.fault(6.0, 7.5) == "there was no reading at its end"


def test_a_counter_that_begins_again() -> None:
    counter = Counter(1e-6, 1_000_000)
    for time, count in ((0.0, 900_000), (0.5, 999_999), (1.0, 100_000), (1.5, 200_000)):
        counter.add(time, count)
    assert counter.between(0.0, 1.5) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("most", "counts"),
    [
        (None, (5_000_000, 4_000_000)),  # reset, and no end is known
        (1_000_000, (5_000_000, 4_000_000)),  # beyond its own end
        (10**12, (0, 10**11)),  # 100 kJ in a second
        (10**12, (10**6, 10**5)),  # backwards: almost once around
    ],
)
def test_a_counter_that_jumps(most: int | None, counts: tuple[int, int]) -> None:
    counter = Counter(1e-6, most)
    for time, count in zip((0.0, 1.0, 2.0), (*counts, counts[-1] + 10**6), strict=True):
        counter.add(time, count)
    assert (counter.between(0.0, 1.0), counter.fault(0.0, 1.0)) == (None, "its counter jumped")
    assert counter.between(0.0, 2.0) is None
    assert counter.between(1.0, 2.0) == pytest.approx(1.0)


def test_two_readings_at_once_are_one() -> None:
    gauge, counter = Gauge(), Counter(1.0, None)
    for energy, values in ((gauge, (1.0, 100.0, 1.0)), (counter, (7, 9, 8))):
        for time, value in zip((1.0, 1.0, 2.0), values, strict=True):
            energy.add(time, value)  # type: ignore[attr-defined]
        assert energy.between(1.0, 2.0) == 1.0
