"""The KV budget: bytes that all caches of an engine may hold together."""

from __future__ import annotations

import threading

from edge.errors import MemoryBudgetError


class Budget:
    """Counts bytes taken; `limit` None means no limit. Safe to use from several threads."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.taken = 0
        self._lock = threading.Lock()

    def take(self, nbytes: int, what: str) -> None:
        """Take `nbytes` more.

        Raises:
            MemoryBudgetError: they are not there; nothing was taken.
        """
        with self._lock:
            if self.limit is not None and self.taken + nbytes > self.limit:
                free = max(0, self.limit - self.taken)
                raise MemoryBudgetError(
                    f"{what} needs {nbytes / 2**20:.1f} MiB of KV memory, {free / 2**20:.1f} MiB are left of "
                    f"{self.limit / 2**20:.1f} MiB; shorten the prompt or close other conversations"
                )
            self.taken += nbytes

    def give(self, nbytes: int) -> None:
        """Give `nbytes` back."""
        with self._lock:
            self.taken -= nbytes
