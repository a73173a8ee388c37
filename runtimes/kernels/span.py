"""Whole pages of a sequence, held apart from its cache: what other sequences begin with, without a copy."""

from __future__ import annotations

from edge.artifact.pages import PAGE_TOKENS
from runtimes.kernels.page_data import NO_PAGE, Pages, blocks_of, page_data
from runtimes.kernels.pools import Pools


class PagedSpan:
    """See `runtimes.protocol.KvSpan`; `pages` of each group are those of the blocks from `start` on."""

    def __init__(self, pools: Pools, start: int, pages: Pages) -> None:
        self.pools = pools
        self.start = start
        self.stop = start + len(pages[0]) * PAGE_TOKENS
        for group, of_block in enumerate(pages):
            pools.share(group, of_block)
        self.pages: Pages = [list(of_block) for of_block in pages]

    @property
    def nbytes(self) -> int:
        """Bytes of its pages, those that others use too included."""
        return sum(
            pool.page_bytes * len(of_block) for pool, of_block in zip(self.pools.of, self.pages, strict=True)
        )

    def export(self) -> bytes:
        """See `KvSpan.export`."""
        before = [NO_PAGE] * blocks_of(self.start)
        return page_data(self.pools, [[*before, *pages] for pages in self.pages], self.start, self.stop)

    def close(self) -> int:
        """See `KvSpan.close`."""
        pages, self.pages = self.pages, [[] for _ in self.pages]
        return sum(self.pools.give(group, of_block) for group, of_block in enumerate(pages))

    def __del__(self) -> None:
        if "pages" in self.__dict__:
            self.close()
