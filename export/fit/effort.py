"""Effort: how much time goes into choosing codes."""

from __future__ import annotations

from dataclasses import dataclass

from edge.errors import InvalidArgument


@dataclass(frozen=True)
class Effort:
    """What one of `EFFORTS` stands for."""

    name: str
    windows: int
    """Of calibration text, each of `text.WINDOW` tokens."""
    probes: int
    """Windows that the sensitivity of matrices is measured on."""
    candidates: tuple[str, ...]
    """Methods that `auto` measures, of each matrix."""
    talks: int = 0
    """Windows of which the model gives the text itself; where the text is ours."""

    @classmethod
    def named(cls, name: str) -> Effort:
        """The effort of that name.

        Raises:
            InvalidArgument: there is none.
        """
        if name not in EFFORTS:
            raise InvalidArgument(f"effort {name!r} is unknown; choose one of {', '.join(EFFORTS)}")
        return EFFORTS[name]


EFFORTS = {
    effort.name: effort
    for effort in (
        Effort("fast", 12, 1, ("gptq", "rtn"), 1),
        Effort("normal", 32, 1, ("gptq", "rtn"), 2),
        Effort("best", 96, 2, ("gptq+descent", "gptq", "rtn"), 2),
    )
}
