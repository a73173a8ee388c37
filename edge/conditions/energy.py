"""Energy over time, of what tells watts and of what counts joules."""

from __future__ import annotations

from bisect import bisect_left

MOST_GAP = 2.0
"""Seconds without a reading behind which what was taken in between is not known."""
_MOST_WATTS = 5000.0


class Energy:
    """Joules taken since the first reading. What happened in a gap is not made up."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._joules: list[float] = []
        self._faults: list[tuple[float, float, str]] = []

    def between(self, start: float, end: float) -> float | None:
        """Joules from `start` to `end`, in the clock's seconds; None where they are not known: `fault` says why."""
        return None if self.fault(start, end) else self._at(end) - self._at(start)

    def fault(self, start: float, end: float) -> str:
        """Why the joules from `start` to `end` are not known; empty where they are."""
        if not self._times:
            return "there was no reading"
        if start < self._times[0]:
            return "there was no reading at its start"
        if end > self._times[-1]:
            return "there was no reading at its end"
        return next((why for a, b, why in self._faults if a < end and b > start), "")

    def _append(self, time: float, joules: float, fault: str = "") -> None:
        if fault:
            self._faults.append((self._times[-1], time, fault))
        self._joules.append((self._joules[-1] if self._joules else 0.0) + joules)
        self._times.append(time)

    def _at(self, time: float) -> float:
        i = bisect_left(self._times, time)
        if self._times[i] == time:
            return self._joules[i]
        before, after = self._times[i - 1], self._times[i]
        part = (time - before) / (after - before)
        return self._joules[i - 1] + part * (self._joules[i] - self._joules[i - 1])


class Gauge(Energy):
    """Of readings in watts: a straight line from each to the next."""

    def __init__(self) -> None:
        super().__init__()
        self._watts = 0.0

    def add(self, time: float, watts: float | None) -> None:
        """A reading at `time`; None is none, and left out."""
        if watts is None or (self._times and time <= self._times[-1]):
            return
        span = time - self._times[-1] if self._times else 0.0
        fault = f"there was no reading for {span:.1f} s" if span > MOST_GAP else ""
        self._append(time, 0.0 if fault else span * (watts + self._watts) / 2, fault)
        self._watts = watts


class Counter(Energy):
    """Of readings of a counter of `unit` joules that begins again at 0 behind `most`, where that is known."""

    def __init__(self, unit: float, most: int | None) -> None:
        super().__init__()
        self._unit, self._most = unit, most
        self._count = 0

    def add(self, time: float, count: int | None) -> None:
        """A reading at `time`; None is none, and left out."""
        if count is None or (self._times and time <= self._times[-1]):
            return
        if not self._times:
            self._append(time, 0.0)
        else:
            steps = count - self._count
            if steps < 0 and self._most and count <= self._most:
                steps += self._most
            joules, span = steps * self._unit, time - self._times[-1]
            jumped = not 0 <= joules <= span * _MOST_WATTS
            self._append(time, 0.0 if jumped else joules, "its counter jumped" if jumped else "")
        self._count = count
