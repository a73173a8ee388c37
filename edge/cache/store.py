"""Blocks in memory: the least recently used go first where there is no room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from edge.cache.block import Block
from runtimes.protocol import KvSpan

Evicted = Callable[[Block, KvSpan], None]


class BlockStore:
    """Spans of KV by block, of at most `limit` bytes together. Not safe to use from two threads at once.

    `evicted` is called with each block that has to go, before its memory is given back.
    """

    def __init__(self, limit: int, evicted: Evicted) -> None:
        self.limit = limit
        self.nbytes = 0
        """Bytes of all spans, those that sequences use too included."""
        self._evicted = evicted
        self._held: OrderedDict[str, tuple[Block, KvSpan]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, block: Block) -> KvSpan | None:
        """The span of `block`, or None; of a block with the same key and other tokens too."""
        held = self._held.get(block.key)
        return held[1] if held is not None and held[0] == block else None

    def put(self, block: Block, span: KvSpan) -> None:
        """Hold `span` as the block used last; what is held of the key already is replaced."""
        old = self._held.pop(block.key, None)
        if old is not None:
            self._let_go(old[1])
        self._held[block.key] = (block, span)
        self.nbytes += span.nbytes
        self.shrink(self.limit)

    def touch(self, chain: Sequence[Block]) -> None:
        """Count those that are held as used last: of a chain the end goes first, which is of use to the fewest."""
        for block in reversed(chain):
            if block.key in self._held:
                self._held.move_to_end(block.key)

    def shrink(self, limit: int) -> None:
        """Let blocks go until no more than `limit` bytes are held."""
        while self._held and self.nbytes > limit:
            self._evict()

    def free(self, nbytes: int) -> int:
        """Let blocks go until `nbytes` were given back to the budget, or none is left; how many were."""
        freed = 0
        while self._held and freed < nbytes:
            freed += self._evict()
        return freed

    def blocks(self) -> list[tuple[Block, KvSpan]]:
        """All that is held, the least recently used first."""
        return list(self._held.values())

    def _evict(self) -> int:
        _, (block, span) = self._held.popitem(last=False)
        try:
            self._evicted(block, span)
        finally:
            freed = self._let_go(span)
        return freed

    def _let_go(self, span: KvSpan) -> int:
        self.nbytes -= span.nbytes
        return span.close()
