"""Progress: how far each stage of the work is, in bytes."""

from __future__ import annotations

from collections.abc import Callable

# Called with (stage, bytes done, bytes in all).
Progress = Callable[[str, int, int], None]


class Counter:
    """Turns bytes since the last call into bytes done, never more than there are."""

    def __init__(self, progress: Progress, stage: str, total: int) -> None:
        self._progress, self._stage, self._total, self._done = progress, stage, total, 0
        progress(stage, 0, total)

    def add(self, nbytes: int) -> None:
        """So many bytes more are done."""
        self._done = min(self._total, self._done + nbytes)
        self._progress(self._stage, self._done, self._total)
