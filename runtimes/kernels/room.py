"""Room for new tokens in several caches at once, or in none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtimes.kernels.cache import CpuCache


def reserve(wants: list[tuple[CpuCache, int]]) -> None:
    """Room for so many tokens more in each cache of one engine, or in none.

    Raises:
        ContextExceeded, MemoryBudgetError
    """
    counts = [cache.wanted(tokens) for cache, tokens in wants]
    copies = _copies([cache for cache, tokens in wants if tokens])
    if not any(counts) and not copies:
        return
    pools = wants[0][0].pools
    tokens = sum(tokens for _, tokens in wants)
    wanted = sum(counts) + len(copies)
    taken = pools.take([wanted] * len(pools.groups), f"room for {tokens} tokens")
    try:
        for cache in copies:
            cache.own([pages.pop() for pages in taken])
        for (cache, _), count in zip(wants, counts, strict=True):
            cache.add([[pages.pop() for _ in range(count)] for pages in taken])
    finally:
        # Empty, unless it was interrupted.
        for group, pages in enumerate(taken):
            pools.give(group, pages)


def _copies(caches: list[CpuCache]) -> list[CpuCache]:
    """Those that are to write into a page that others use too; the last of a page's users has it for itself."""
    users: dict[tuple[int, ...], int] = {}
    found = []
    for cache in caches:
        last = cache.last
        if last not in users:
            users[last] = max((cache.pools.users(i, page) for i, page in enumerate(last)), default=1)
        if users[last] > 1:
            users[last] -= 1
            found.append(cache)
    return found
