"""Blocks on the disk: a file a block, within a budget that all models and processes share.

Nothing is locked: a file is renamed into place when it is whole, and one that another process removes was read or not.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from edge.cache.block import Block
from edge.cache.folder import BLOCK_SUFFIX, BLOCKS, stored_blocks
from edge.cache.record import encode_record, read_record, write_record
from edge.errors import RecordDamaged, RecordForeign

KIND = "kv-block"
_log = logging.getLogger("edgewise.cache")

# Others write too: the folder is counted again after each such part of the budget.
_PARTS = 16
# Blocks in memory beside the cache that takes them in.
_AHEAD = 4
_APART_NS = 1000
# Of the budget is left when room is made, so that it is not made for every block.
_LEFT = 0.9


class DiskStore:
    """The blocks of `fingerprint` in a folder that `make_folder` made; what fails is told once and done without."""

    def __init__(self, folder: Path, fingerprint: str, model: str, budget: int) -> None:
        self.budget = budget
        self._root = folder
        self._fingerprint = fingerprint
        self._model = model
        self._folder = folder / BLOCKS / fingerprint
        self._until_count = 0
        self._told: set[type[Exception]] = set()

    def has(self, block: Block) -> bool:
        """Whether there is a file for it; not whether it can be used."""
        return os.path.exists(self._path(block))

    def read(self, block: Block) -> memoryview | None:
        """What `write` was given, or None where it is not there or not whole."""
        path = self._path(block)
        try:
            record = read_record(path, KIND)
        except FileNotFoundError:
            return None
        except RecordDamaged as e:
            self._tell(e, "it is removed and computed again")
            with suppress(OSError):
                path.unlink()
            return None
        except (RecordForeign, OSError) as e:
            self._tell(e, "it is left alone and computed again")
            return None
        # The same model by another name is the same model.
        return record.body if {**record.header, "model": self._model} == self._header(block) else None

    def read_all(self, chain: Sequence[Block]) -> Iterator[tuple[Block, memoryview | None]]:
        """What `read` gives of each, a few read ahead."""
        with ThreadPoolExecutor(_AHEAD) as pool:
            for start in range(0, len(chain), _AHEAD):
                part = chain[start : start + _AHEAD]
                yield from zip(part, pool.map(self.read, part), strict=True)

    def write(self, block: Block, data: bytes) -> bool:
        """Keep `data`; whether it is there now."""
        if self.has(block):
            return True
        parts = encode_record(KIND, self._header(block), data)
        if not self._make_room(sum(map(len, parts))):
            return False
        try:
            with suppress(FileExistsError):
                os.mkdir(self._folder, 0o700)
            write_record(self._path(block), parts)
        except OSError as e:
            self._tell(e, "blocks are not kept on the disk for now")
            return False
        return True

    def touch(self, chain: Sequence[Block]) -> None:
        """Count blocks as used last, the end of the chain as used before its beginning."""
        now = time.time_ns()
        for i, block in enumerate(chain):
            # Apart by hand: the clock of files is coarse.
            used = now - i * _APART_NS
            with suppress(OSError):
                os.utime(self._path(block), ns=(used, used))

    def _make_room(self, nbytes: int) -> bool:
        """Whether `nbytes` more stay within the budget, older blocks removed for them where they must be."""
        if nbytes > self.budget:
            return False
        self._until_count -= nbytes
        if self._until_count < 0:
            held = sorted(stored_blocks(self._root), key=lambda stored: stored.used)
            taken, now = sum(stored.nbytes for stored in held), time.time()
            if taken + nbytes > self.budget:
                for stored in held:
                    if taken + nbytes <= self.budget * _LEFT:
                        break
                    try:
                        stored.path.unlink(missing_ok=True)
                    except OSError:
                        continue
                    taken -= stored.nbytes
                if taken + nbytes > self.budget:
                    return False
            for stored in held:
                # A clock that went back: such files would stay for as long as it was ahead.
                if stored.used > now + 1:
                    with suppress(OSError):
                        os.utime(stored.path)
            self._until_count = min(self.budget // _PARTS, max(0, self.budget - taken - nbytes))
        return True

    def _path(self, block: Block) -> Path:
        return self._folder / (block.key + BLOCK_SUFFIX)

    def _header(self, block: Block) -> dict[str, object]:
        return {
            "model": self._model,
            "fingerprint": self._fingerprint,
            "parent": block.parent,
            "start": block.start,
            "tokens": list(block.tokens),
        }

    def _tell(self, error: Exception, then: str) -> None:
        if type(error) not in self._told:
            self._told.add(type(error))
            _log.warning("%s; %s", error, then)
