"""The KV cache of one sequence: pages of the engine's pools, found through a block table for each group of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.artifact.pages import PAGE_TOKENS
from edge.errors import EngineError, EngineFailed, InvalidArgument
from runtimes.kernels.page_data import (
    NO_PAGE,
    Pages,
    blocks_of,
    page_data,
    page_data_bytes,
    page_header,
    put_page_data,
)
from runtimes.kernels.pools import Pools
from runtimes.kernels.room import reserve
from runtimes.kernels.span import PagedSpan
from runtimes.kv_data import check_context, check_header, check_range, check_slide, check_whole, split_header
from runtimes.protocol import KvSpan, LayerGroup

_LEAST_BLOCKS = 16


class CpuCache:
    """See `runtimes.protocol.Cache`. Not safe to use from two threads at once."""

    def __init__(self, pools: Pools, context: int) -> None:
        self.pools = pools
        self._context = context
        self._length = 0
        self._blocks = 0
        self.tables = [np.full((1, 0), NO_PAGE, np.int32) for _ in pools.groups]
        """Of each group int32 [1, blocks], NO_PAGE behind the last."""
        self._forgotten = [0] * len(pools.groups)
        """Of each group, blocks that were given back for good."""
        self.binding: Any = None
        """What the engine bound to the tables; dropped when they move."""

    @property
    def length(self) -> int:
        """Tokens held."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of its pages, those shared with others included."""
        return sum(group.nbytes for group in self.layers)

    @property
    def layers(self) -> tuple[LayerGroup, ...]:
        """What is held, by group of layers."""
        return tuple(
            LayerGroup(group.kind, group.layers, self._length, int((table >= 0).sum()) * pool.page_bytes)
            for group, pool, table in zip(self.pools.groups, self.pools.of, self.tables, strict=True)
        )

    def reserve(self, tokens: int) -> None:
        """See `Cache.reserve`."""
        reserve([(self, tokens)])

    def truncate(self, length: int) -> None:
        """See `Cache.truncate`."""
        check_range(0, length, self._length)
        self._check_remembered(length)
        if length == 0:
            self.close()
            return
        self._length = length
        self._keep_room(blocks_of(length))

    def advance(self, tokens: int) -> None:
        """Count `tokens` that a run has written behind those held."""
        self._length += tokens

    def forget(self) -> None:
        """Give back the pages that no window reaches any more."""
        for i, group in enumerate(self.pools.groups):
            first = self._first(group.window, self._length) if group.window else 0
            if first > self._forgotten[i]:
                self._drop(self._forgotten[i], first, i)
                self._forgotten[i] = first

    def fork(self, length: int) -> CpuCache:
        """See `Cache.fork`; the pages are shared until one of the two writes."""
        check_range(0, length, self._length)
        self._check_remembered(length)
        other = CpuCache(self.pools, self._context)
        blocks = blocks_of(length)
        other._widen(blocks)
        for i, (mine, theirs) in enumerate(zip(self.tables, other.tables, strict=True)):
            theirs[0, :blocks] = mine[0, :blocks]
            self.pools.share(i, theirs[0, :blocks].tolist())
        other._blocks, other._length = blocks, length
        other._forgotten = [min(count, blocks) for count in self._forgotten]
        return other

    def export(self, start: int, stop: int) -> bytes:
        """See `Cache.export`.

        Raises:
            EngineError: a window has forgotten some of the tokens.
        """
        check_range(start, stop, self._length)
        return page_data(self.pools, self._pages, start, stop)

    def adopt(self, data: bytes | memoryview) -> None:
        """See `Cache.adopt`.

        Raises:
            InvalidArgument: it is no export of this model, or does not follow on the tokens held.
        """
        header, start, stop, body = split_header(data)
        # Before the sizes: numbers that follow on what is held are none to run away with.
        held = start == self._length and start <= stop <= self._context
        expected = page_data_bytes(self.pools, start, stop) if held else -1
        check_header(header, page_header(self.pools, start, stop), body, expected, self._length)
        self.reserve(stop - start)
        put_page_data(self.pools, self._pages, start, stop, body)
        self._length = stop
        self.forget()

    def share(self, start: int, stop: int) -> PagedSpan:
        """See `Cache.share`; the pages stay where they are.

        Raises:
            EngineError: a window has forgotten some of the tokens.
        """
        check_range(start, stop, self._length)
        check_whole(start, stop)
        first, last = start // PAGE_TOKENS, stop // PAGE_TOKENS
        pages = [table[0, first:last].tolist() for table in self.tables]
        if any(NO_PAGE in of_block for of_block in pages):
            raise EngineError(
                f"tokens [{start}, {stop}) are not all held: a sliding window has forgotten some"
            )
        return PagedSpan(self.pools, start, pages)

    def attach(self, span: KvSpan) -> None:
        """See `Cache.attach`; pages are shared, and room that was kept is given back."""
        if not isinstance(span, PagedSpan) or span.pools is not self.pools:
            raise EngineFailed("the KV belongs to another engine; use the one that shared it")
        if span.start != self._length:
            raise InvalidArgument(f"KV of tokens from {span.start} on does not follow on {self._length} held")
        check_context(self._length, span.stop - span.start, self._context)
        self._drop(blocks_of(self._length), self._blocks)
        self._blocks = blocks_of(self._length)
        for group, of_block in enumerate(span.pages):
            self.pools.share(group, of_block)
        self.add(span.pages)
        self._length = span.stop
        self.forget()

    def slide(self, keep: int, drop: int) -> None:
        """See `Cache.slide`."""
        check_slide(self.pools.spec, self.pools.groups, keep, drop, self._length)
        first, behind = keep // PAGE_TOKENS, (keep + drop) // PAGE_TOKENS
        held = blocks_of(self._length)
        shared = [block for block in range(behind, held) if self._users(block) > 1]
        taken = self.pools.take(
            [len(shared)] * len(self.tables), f"moving {len(shared) * PAGE_TOKENS} tokens"
        )
        try:
            for block in shared:
                self._own(block, [pages.pop() for pages in taken])
            for group, table in enumerate(self.tables):
                self.pools.turn(group, table[0, behind:held].tolist(), -drop)
            self._drop(first, behind)
            for table in self.tables:
                table[0, first : self._blocks - behind + first] = table[0, behind : self._blocks].copy()
                table[0, self._blocks - behind + first : self._blocks] = NO_PAGE
            self._blocks -= behind - first
            self._length -= drop
        except BaseException:
            # Some keys may be where they were and some not.
            self.close()
            raise
        finally:
            for group, pages in enumerate(taken):
                self.pools.give(group, pages)

    def close(self) -> None:
        """See `Cache.close`."""
        self._drop(0, self._blocks)
        self._blocks = self._length = 0
        self._forgotten = [0] * len(self._forgotten)

    def check_owner(self, pools: Pools) -> None:
        """Raises EngineFailed where the cache belongs to another engine."""
        if self.pools is not pools:
            raise EngineFailed("the cache belongs to another engine; use the one that made it")

    def __del__(self) -> None:
        # A cache dropped without close gives its pages back all the same.
        if self.__dict__.get("_blocks"):
            self.close()

    def wanted(self, tokens: int) -> int:
        """Pages of each group that `tokens` more take behind those there are.

        Raises:
            ContextExceeded
        """
        needed = check_context(self._length, tokens, self._context)
        return max(0, blocks_of(needed) - self._blocks)

    @property
    def last(self) -> tuple[int, ...]:
        """The pages that the next token goes into, one a group; none where it takes new ones."""
        block = self._length // PAGE_TOKENS
        return tuple(int(table[0, block]) for table in self.tables) if block < self._blocks else ()

    def own(self, pages: Sequence[int]) -> None:
        """Go on in `pages`, one a group, in place of the last ones, as copies of them."""
        self._own(self._length // PAGE_TOKENS, pages)

    def add(self, pages: Sequence[Sequence[int]]) -> None:
        """Take over so many new pages of each group."""
        new = len(pages[0])
        self._widen(self._blocks + new)
        for table, fresh in zip(self.tables, pages, strict=True):
            table[0, self._blocks : self._blocks + new] = fresh
        self._blocks += new

    def _own(self, block: int, pages: Sequence[int]) -> None:
        for i, (table, copy) in enumerate(zip(self.tables, pages, strict=True)):
            old = int(table[0, block])
            self.pools.copy(i, old, copy)
            table[0, block] = copy
            self.pools.give(i, [old])

    def _users(self, block: int) -> int:
        """How many use the page of `block`, of the group where they are most."""
        return max(self.pools.users(i, int(table[0, block])) for i, table in enumerate(self.tables))

    @property
    def _pages(self) -> Pages:
        return [table[0].tolist() for table in self.tables]

    def _widen(self, blocks: int) -> None:
        """Room for `blocks` in the tables."""
        width = self.tables[0].shape[1]
        if blocks <= width:
            return
        width = max(_LEAST_BLOCKS, blocks, 2 * width)
        for i, table in enumerate(self.tables):
            wide: NDArray[np.int32] = np.full((1, width), NO_PAGE, np.int32)
            wide[:, : table.shape[1]] = table
            self.tables[i] = wide
        self.binding = None

    def _keep_room(self, blocks: int) -> None:
        """Of the pages behind the first `blocks` keep those that are this cache's alone."""
        behind = range(blocks, self._blocks)
        mine = [block for block in behind if self._users(block) == 1]
        for i, table in enumerate(self.tables):
            kept = [int(table[0, block]) for block in mine]
            others = [int(table[0, block]) for block in behind if block not in mine]
            table[0, blocks : self._blocks] = kept + [NO_PAGE] * len(others)
            self.pools.give(i, others)
        self._blocks = blocks + len(mine)

    def _drop(self, start: int, stop: int, group: int | None = None) -> None:
        """Give back the pages of blocks [start, stop), of one group or of all."""
        for i, table in enumerate(self.tables):
            if group in (None, i) and start < stop:
                # Out of the table first: an interrupt between the two may lose a page, never give one back twice.
                pages = table[0, start:stop].tolist()
                table[0, start:stop] = NO_PAGE
                self.pools.give(i, pages)

    @staticmethod
    def _first(window: int, length: int) -> int:
        """The first block that a token behind `length` others sees."""
        return max(0, length + 1 - window) // PAGE_TOKENS

    def _check_remembered(self, length: int) -> None:
        """Raises EngineError where a window has forgotten what a token behind the first `length` would see."""
        for group, table in zip(self.pools.groups, self.tables, strict=True):
            first = self._first(group.window, length) if group.window else 0
            if (table[0, first : blocks_of(length)] == NO_PAGE).any():
                raise EngineError(
                    f"the first {length} of {self._length} tokens cannot be gone back to: a window of "
                    f"{group.window} tokens has forgotten what they see; run them again from the start"
                )
