"""The KV budget: bytes that all caches of an engine may hold together."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge.errors import MemoryBudgetError


class Budget:
    """Counts bytes taken; `limit` None means no limit. Safe to use from several threads."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.taken = 0
        self.reclaim: Callable[[int], object] | None = None
        """Called with the bytes that are missing before anything is refused."""
        self.guard: Callable[[int], None] | None = None
        """Called with the bytes that are wanted; refuses with MemoryBudgetError. No lock is held in either."""
        self._lock = threading.Lock()

    @property
    def free(self) -> int | None:
        """Bytes that can be taken; None where there is no limit."""
        return None if self.limit is None else max(0, self.limit - self.taken)

    def take(self, nbytes: int, what: str) -> None:
        """Take `nbytes` more.

        Raises:
            MemoryBudgetError: they are not there; nothing was taken.
        """
        if self.guard is not None and nbytes:
            self.guard(nbytes)
        missing = self._take(nbytes)
        if missing and self.reclaim is not None:
            self.reclaim(missing)
            missing = self._take(nbytes)
        if missing:
            free, limit = self.free or 0, self.limit or 0
            raise MemoryBudgetError(
                f"{what} needs {nbytes / 2**20:.1f} MiB of KV memory, {free / 2**20:.1f} MiB are left of "
                f"{limit / 2**20:.1f} MiB; shorten the prompt or close other conversations"
            )

    def give(self, nbytes: int) -> None:
        """Give `nbytes` back."""
        with self._lock:
            self.taken -= nbytes

    def _take(self, nbytes: int) -> int:
        """Take `nbytes` and return 0, or take nothing and return how many are missing."""
        with self._lock:
            missing = 0 if self.limit is None else max(0, self.taken + nbytes - self.limit)
            if not missing:
                self.taken += nbytes
            return missing
