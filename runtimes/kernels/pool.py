"""Pages of one group of layers: one reservation of addresses, in memory only where it was touched."""

from __future__ import annotations

import mmap
import os

import numpy as np
from numpy.typing import NDArray

from edge.errors import MemoryBudgetError

Bytes = NDArray[np.uint8]

# Addresses without memory or swap set aside for them. Python names it from 3.13 on.
_NORESERVE = 0x4000
_LEAST_PAGES = 64


class PagePool:
    """Pages of `page_bytes`, each with a count of those who use it. Not safe to use from two threads at once.

    At most `limit` bytes, None is as many as the machine has.

    Raises:
        MemoryBudgetError: the system has no addresses for so little as 64 pages.
    """

    def __init__(self, page_bytes: int, limit: int | None = None) -> None:
        # Whole pages of the system, so that each can be given back.
        self.page_bytes = -(-page_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        """Bytes that a page takes."""
        self._map = _reserved(self.page_bytes, limit)
        self.array: Bytes = np.frombuffer(self._map, np.uint8).reshape(-1, self.page_bytes)
        """uint8 [pages, page_bytes]; of those that nobody uses, zero."""
        self._users: list[int] = []
        self._free: list[int] = []

    @property
    def free(self) -> int:
        """Pages that can be taken."""
        return len(self.array) - len(self._users) + len(self._free)

    @property
    def used(self) -> int:
        """Pages that somebody uses."""
        return len(self._users) - len(self._free)

    def take(self) -> int:
        """A page that nobody uses, zero all over; there must be one."""
        if self._free:
            page = self._free.pop()
            self._users[page] = 1
            return page
        self._users.append(1)
        return len(self._users) - 1

    def share(self, page: int) -> None:
        """One more user of `page`."""
        self._users[page] += 1

    def users(self, page: int) -> int:
        """How many use `page`."""
        return self._users[page]

    def give(self, page: int) -> bool:
        """One user less; without any its memory goes back to the system. Whether it did."""
        self._users[page] -= 1
        if self._users[page]:
            return False
        self._free.append(page)
        try:
            self._map.madvise(mmap.MADV_DONTNEED, page * self.page_bytes, self.page_bytes)
        except OSError:  # the process has locked its memory
            self.array[page] = 0
        return True


def _reserved(page_bytes: int, limit: int | None) -> mmap.mmap:
    """Addresses for as many pages as there may be, or fewer where the process may not have so many."""
    memory = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE
    pages = max(_LEAST_PAGES, (memory if limit is None else min(limit, memory)) // page_bytes)
    while True:
        try:
            return mmap.mmap(-1, pages * page_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
        except (OSError, ValueError, OverflowError) as e:
            if pages <= _LEAST_PAGES:
                raise MemoryBudgetError(
                    f"the system refuses {pages * page_bytes / 2**20:.1f} MiB of addresses for the KV cache ({e}); "
                    "raise the limit on the process's address space (ulimit -v)"
                ) from None
            # A quarter: others want addresses too.
            pages = max(_LEAST_PAGES, pages // 4)
