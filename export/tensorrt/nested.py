"""How far a build is, from the phases that TensorRT tells of, one inside another."""

from __future__ import annotations

# Where code is made, which takes nearly all the time.
_LONG, _SHARE = "Computing profile costs", 0.9


class Nested:
    """Phases that are open, the outermost first."""

    def __init__(self) -> None:
        self._open: list[tuple[str, int]] = []
        self._done: dict[str, int] = {}
        self._most = 0.0

    def start(self, name: str, steps: int) -> None:
        """A phase of so many steps begins."""
        self._open.append((name, steps))
        self._done[name] = 0

    def step(self, name: str, number: int) -> None:
        """A step of a phase is done; the first has number 0."""
        self._done[name] = number + 1

    def finish(self, name: str) -> None:
        """A phase ends."""
        self._open = [(other, steps) for other, steps in self._open if other != name]

    @property
    def stage(self) -> str:
        """What it is about; the innermost phases are too short to be read."""
        return self._open[min(3, len(self._open)) - 1][0] if self._open else ""

    @property
    def fraction(self) -> float:
        """Of the whole, from 0 to 1; never less than it was."""
        whole = part = 0.0
        for name, steps in reversed(self._open):
            whole = min(1.0, (self._done[name] + whole) / max(1, steps))
            if name == _LONG:
                part = whole
        self._most = max(self._most, (1 - _SHARE) * whole + _SHARE * part)
        return self._most
