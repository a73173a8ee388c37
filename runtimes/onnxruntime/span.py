"""A copy of some of a sequence's KV, for engines whose operators want one contiguous buffer."""

from __future__ import annotations

from runtimes.budget import Budget


class CopiedSpan:
    """See `runtimes.protocol.KvSpan`; `nbytes` were taken from `budget` for it."""

    def __init__(self, budget: Budget, start: int, stop: int, nbytes: int, data: bytes) -> None:
        self.budget = budget
        self.start = start
        self.stop = stop
        self._nbytes = nbytes
        self._data = data

    @property
    def nbytes(self) -> int:
        """Bytes of the copy."""
        return self._nbytes

    def export(self) -> bytes:
        """See `KvSpan.export`."""
        return self._data

    def close(self) -> int:
        """See `KvSpan.close`."""
        nbytes, self._nbytes, self._data = self._nbytes, 0, b""
        self.budget.give(nbytes)
        return nbytes

    def __del__(self) -> None:
        if self.__dict__.get("_nbytes"):
            self.close()
