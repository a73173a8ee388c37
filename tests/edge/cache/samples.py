"""Blocks, their bytes and sessions, made on the spot."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from edge.cache.block import BLOCK_TOKENS, Block, blocks
from edge.cache.disk import DiskStore
from edge.cache.folder import BLOCK_SUFFIX, BLOCKS, SESSIONS, make_folder, stored_blocks
from edge.cache.prefix import PrefixCache
from edge.cache.record import PART
from edge.cache.saved import SavedSession
from edge.cache.session import Session
from runtimes.protocol import CancelToken
from tests.edge.toy_engine import ToyEngine

FINGERPRINT = "f" * 32
PLENTY = 1 << 30


def chain(count: int, fingerprint: str = FINGERPRINT) -> list[Block]:
    """The blocks of a text."""
    return list(blocks(fingerprint, range(count * BLOCK_TOKENS)))


def data_of(block: Block, most: int = 5000) -> bytes:
    """Bytes that no other block has, up to `most` of them."""
    random = Random(block.key)
    return random.randbytes(random.randint(1, most))


def open_disk(
    folder: Path, budget: int = PLENTY, fingerprint: str = FINGERPRINT, model: str = "toy"
) -> DiskStore:
    """As a process does that has just begun."""
    return DiskStore(make_folder(folder), fingerprint, model, budget)


def read(disk: DiskStore, block: Block) -> bytes | None:
    """What is read, to be compared."""
    data = disk.read(block)
    return None if data is None else bytes(data)


def path_of(folder: Path, block: Block, fingerprint: str = FINGERPRINT) -> Path:
    return folder / BLOCKS / fingerprint / (block.key + BLOCK_SUFFIX)


def held_bytes(folder: Path) -> int:
    """Of all files of blocks."""
    return sum(stored.nbytes for stored in stored_blocks(folder))


def leftovers(folder: Path) -> list[Path]:
    """Files that somebody began to write."""
    return [path for part in (BLOCKS, SESSIONS) for path in (folder / part).rglob(f"*{PART}")]


def new_session(count: int = 0) -> Session:
    """One that holds `count` tokens, fewer than a block."""
    assert count < BLOCK_TOKENS
    engine: Any = ToyEngine(vocab=BLOCK_TOKENS)
    session = Session(engine, PrefixCache(FINGERPRINT, 0))
    if count:
        session.run(range(count), CancelToken())
    return session


@cache
def session_of(version: int) -> Session:
    """What `write_version` writes. Not to be changed."""
    return new_session(version)


def kv_of(session: Session) -> bytes:
    """All that it holds."""
    return session.cache.export(0, len(session.tokens)) if session.cache is not None else b""


def open_session(folder: Path, name: str = "mine", fingerprint: str = FINGERPRINT) -> SavedSession:
    return SavedSession(make_folder(folder), name, fingerprint, "toy")


def version_of(saved: SavedSession) -> int:
    """As it was written by `write_version`; 0 where there is none. It is whole."""
    found = saved.read()
    if found is None:
        return 0
    version: int = found.header["chat"]["version"]
    session, restored = session_of(version), new_session()
    assert found.header == {
        "model": "toy",
        "fingerprint": FINGERPRINT,
        "tokens": session.tokens,
        "chat": {"version": version},
    }
    saved.restore(found, restored)
    assert (restored.tokens, kv_of(restored)) in ((session.tokens, kv_of(session)), ([], b""))
    return version


def write_version(saved: SavedSession, version: int) -> None:
    saved.write({"version": version}, session_of(version))
