"""The prefix cache: KV of what was read before, for whoever begins with the same tokens."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

from edge.cache.block import BLOCK_TOKENS, Block, blocks
from edge.cache.disk import DiskStore
from edge.cache.store import BlockStore
from edge.errors import CapacityError, InvalidArgument
from runtimes.protocol import Cache, KvSpan


class PrefixCache:
    """Blocks of one model on one engine, in memory and, where there is a `disk`, there too.

    `memory` is the most that blocks in memory may take, in bytes. Safe to use from several threads.
    """

    def __init__(self, fingerprint: str, memory: int, disk: DiskStore | None = None) -> None:
        self.disk = disk
        self._fingerprint = fingerprint
        self._store = BlockStore(memory, partial(_to_disk, disk))
        self._lock = threading.RLock()

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks in memory, those that sequences use too included."""
        return self._store.nbytes

    def find(self, tokens: Sequence[int]) -> list[Block]:
        """The blocks held of the beginning of `tokens`; those on the disk may prove unusable."""
        found = []
        with self._lock:
            for block in blocks(self._fingerprint, tokens):
                if self._store.get(block) is None and not (self.disk and self.disk.has(block)):
                    break
                found.append(block)
            self._store.touch(found)
        return found

    def in_memory(self, found: Sequence[Block]) -> int:
        """Tokens of the first blocks of `found` that take no memory when they are attached."""
        with self._lock:
            count = next((i for i, block in enumerate(found) if self._store.get(block) is None), len(found))
        return count * BLOCK_TOKENS

    def attach(self, cache: Cache, found: Sequence[Block]) -> None:
        """Append to `cache`, which holds the tokens before them, as many of `found` as can be had."""
        wanted = [block for block in found if block.start >= cache.length]
        with self._lock:
            while wanted:
                span = self._store.get(wanted[0])
                if span is not None:
                    cache.attach(span)
                    del wanted[0]
                elif not self._read(cache, wanted):
                    break
            self._store.touch(found)

    def keep(self, cache: Cache, tokens: Sequence[int]) -> None:
        """Hold the whole blocks of `tokens`, which `cache` holds."""
        with self._lock:
            chain = list(blocks(self._fingerprint, tokens))
            # The end first: what goes where there is no room is the end too.
            for block in reversed(chain):
                if self._store.get(block) is None:
                    self._hold(cache, block)
            self._store.touch(chain)

    def release(self, nbytes: int) -> int:
        """Give memory back until `nbytes` are free that were not, or none is left; how many are.

        The blocks used last stay; those that go are on the disk afterwards, if there is one.
        """
        with self._lock:
            return self._store.free(nbytes)

    def write(self, cache: Cache, tokens: Sequence[int]) -> None:
        """Have the whole blocks of `tokens`, which `cache` holds, on the disk."""
        if self.disk is None:
            return
        for block in reversed(list(blocks(self._fingerprint, tokens))):
            if not self.disk.has(block):
                self.disk.write(block, cache.export(block.start, block.stop))

    def close(self) -> None:
        """Write to the disk what is not there yet, and give all memory back."""
        with self._lock:
            self._store.shrink(0)

    def _read(self, cache: Cache, wanted: list[Block]) -> bool:
        """Append what the disk has of `wanted`, which is left with the rest; False where no more can be had."""
        if self.disk is None:
            return False
        read: list[Block] = []
        try:
            # At once: each time room is taken, the system is asked what it has.
            cache.reserve(len(wanted) * BLOCK_TOKENS)
            for block, data in self.disk.read_all(wanted):
                if data is None:
                    break
                cache.adopt(data)
                read.append(block)
        except (InvalidArgument, CapacityError):
            wanted.clear()
        for block in read:
            self._hold(cache, block)
        del wanted[: len(read)]
        self.disk.touch(read)
        return bool(read)

    def _hold(self, cache: Cache, block: Block) -> None:
        try:
            span = cache.share(block.start, block.stop)
        except CapacityError:  # an engine that has to copy
            return
        self._store.put(block, span)


def _to_disk(disk: DiskStore | None, block: Block, span: KvSpan) -> None:
    """Of a block that goes from memory."""
    if disk is not None and not disk.has(block):
        disk.write(block, span.export())
