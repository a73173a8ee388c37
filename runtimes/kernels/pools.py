"""The KV memory of an engine: a pool for each group of layers, counted against one budget."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from edge.artifact import KvGroup, ModelSpec
from edge.artifact.pages import KV_TYPES, head_page_bytes
from edge.artifact.rope import turn_by
from edge.errors import MemoryBudgetError
from runtimes.budget import Budget
from runtimes.kernels.library import KernelPool, load_library
from runtimes.kernels.pool import PagePool


class Pools:
    """Pools in the order of `groups`. Taking and giving is safe from several threads.

    Raises:
        MemoryBudgetError: there are no addresses for them.
    """

    def __init__(self, spec: ModelSpec, groups: Sequence[KvGroup], budget: Budget, threads: int = 1) -> None:
        self.spec = spec
        self.groups = tuple(groups)
        self.budget = budget
        self.kind = groups[0].type
        """Type of keys and values."""
        self.head_bytes = head_page_bytes(self.kind, spec.head_dim, spec.head_dim)
        """Bytes of one KV head of one layer in a page."""
        self.of = [
            PagePool(self.head_bytes * spec.kv_heads * len(group.layers), budget.limit)
            for group in self.groups
        ]
        self._threads = threads
        self._lock = threading.RLock()

    @property
    def nbytes(self) -> int:
        """Bytes of all pages in use; what several sequences share counts once."""
        return sum(pool.used * pool.page_bytes for pool in self.of)

    def take(self, counts: Sequence[int], what: str) -> list[list[int]]:
        """So many pages of each pool, or none at all.

        Raises:
            MemoryBudgetError: the budget or the pools do not hold them; nothing was taken.
        """
        nbytes = sum(pool.page_bytes * n for pool, n in zip(self.of, counts, strict=True))
        # Outside of the lock: what is reclaimed for it is given back through this very object.
        self.budget.take(nbytes, what)
        with self._lock:
            for pool, count in zip(self.of, counts, strict=True):
                if count > pool.free:
                    self.budget.give(nbytes)
                    raise MemoryBudgetError(
                        f"{what} needs {count} pages of KV, {pool.free} of {len(pool.array)} are free; "
                        "shorten the prompt or close other conversations"
                    )
            return [[pool.take() for _ in range(n)] for pool, n in zip(self.of, counts, strict=True)]

    def share(self, group: int, pages: Sequence[int]) -> None:
        """One more user of each of `pages`; negative numbers stand for none."""
        with self._lock:
            for page in pages:
                if page >= 0:
                    self.of[group].share(page)

    def give(self, group: int, pages: Sequence[int]) -> int:
        """One user less of each of `pages`, negative numbers stand for none; bytes that nobody uses any more."""
        pool = self.of[group]
        with self._lock:
            freed = pool.page_bytes * sum(pool.give(page) for page in pages if page >= 0)
        self.budget.give(freed)
        return freed

    def users(self, group: int, page: int) -> int:
        """How many use `page`."""
        return self.of[group].users(page)

    def turn(self, group: int, pages: Sequence[int], positions: int) -> None:
        """Turn the keys of `pages` to where they would be `positions` further on."""
        pool = KernelPool(
            self.of[group].array,
            KV_TYPES.index(self.kind),
            self.spec.kv_heads * len(self.groups[group].layers),
            self.spec.head_dim,
        )
        load_library().shift(pool, pages, *turn_by(self.spec, positions), self._threads)

    def copy(self, group: int, page: int, to: int) -> None:
        """Make page `to` what `page` is."""
        array = self.of[group].array
        array[to] = array[page]
