"""What lies in the folder of the cache: listed, checked, removed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.cache import disk, saved
from edge.cache.folder import (
    SESSION_SUFFIX,
    SESSIONS,
    TAIL_SUFFIX,
    stored_blocks,
    stored_sessions,
    stored_tails,
)
from edge.cache.record import Record, read_record
from edge.errors import RecordDamaged, RecordForeign, SessionInUse, StorageError


@dataclass(frozen=True)
class StoredModel:
    """The blocks that were made with one model on one engine."""

    fingerprint: str
    name: str
    """The artifact's; empty where no block can be read."""
    blocks: int
    nbytes: int
    used: float
    """When one was last written or read, in seconds since the epoch."""


@dataclass(frozen=True)
class StoredSession:
    """A named session."""

    name: str
    model: str
    messages: int
    tokens: int
    nbytes: int
    used: float
    open: bool
    """In a process that is alive."""


def stored_models(folder: Path) -> list[StoredModel]:
    """The models that have blocks in `folder`, the one used last first."""
    found: dict[str, StoredModel] = {}
    for block in stored_blocks(folder):
        key = block.path.parent.name
        name = found[key].name if key in found else _model(block.path)
        before = found.get(key, StoredModel(key, name, 0, 0, 0.0))
        found[key] = StoredModel(
            key, name, before.blocks + 1, before.nbytes + block.nbytes, max(before.used, block.used)
        )
    return sorted(found.values(), key=lambda model: -model.used)


def sessions(folder: Path) -> list[StoredSession]:
    """The named sessions in `folder`, the one used last first."""
    found = []
    tails = {stored.path.stem: stored.nbytes for stored in stored_tails(folder)}
    for stored in stored_sessions(folder):
        with suppress(OSError, RecordDamaged, RecordForeign):
            header = read_record(stored.path, saved.KIND).header
            chat, tokens = header.get("chat") or {}, header.get("tokens") or []
            found.append(
                StoredSession(
                    name=stored.path.stem,
                    model=str(header.get("model")),
                    messages=len(chat.get("messages") or []),
                    tokens=len(tokens),
                    nbytes=stored.nbytes + tails.get(stored.path.stem, 0),
                    used=stored.used,
                    open=_is_open(stored.path),
                )
            )
    return sorted(found, key=lambda session: -session.used)


def faults(folder: Path, progress: Callable[[int], None] | None = None) -> Iterator[tuple[Path, str]]:
    """Each file that is not what was written to it, and why; `progress` is told the bytes read since the last call."""
    for kind, files in (
        (disk.KIND, stored_blocks(folder)),
        (saved.KIND, stored_sessions(folder)),
        (saved.TAIL_KIND, stored_tails(folder)),
    ):
        for stored in files:
            try:
                read_record(stored.path, kind)
            except FileNotFoundError:  # another process has removed it
                pass
            except (RecordDamaged, RecordForeign) as e:
                yield stored.path, str(e)
            except OSError as e:
                yield stored.path, f"{stored.path} cannot be read ({e.strerror})"
            if progress is not None:
                progress(stored.nbytes)


def remove_model(folder: Path, fingerprint: str) -> int:
    """Remove the blocks of a model, from under a process that uses them too: it computes them again. Bytes removed."""
    removed = 0
    parents = set()
    for block in stored_blocks(folder):
        if block.path.parent.name == fingerprint:
            parents.add(block.path.parent)
            with suppress(FileNotFoundError):
                block.path.unlink()
                removed += block.nbytes
    for parent in parents:
        with suppress(OSError):
            parent.rmdir()
    return removed


def remove_session(folder: Path, name: str) -> int:
    """Remove a named session; bytes removed, 0 where there is none.

    Raises:
        InvalidArgument: it is no name.
        SessionInUse: it is open.
    """
    path = folder / SESSIONS / (saved.checked_name(name) + SESSION_SUFFIX)
    if not path.exists():
        return 0
    lock = saved.locked(path)
    try:
        nbytes = 0
        for file in (path.with_suffix(TAIL_SUFFIX), path):
            with suppress(FileNotFoundError):
                nbytes += file.stat().st_size
                file.unlink()
        return nbytes
    finally:
        os.close(lock)


def _model(path: Path) -> str:
    try:
        record: Record = read_record(path, disk.KIND)
    except (OSError, RecordDamaged, RecordForeign):
        return ""
    return str(record.header.get("model"))


def _is_open(path: Path) -> bool:
    try:
        os.close(saved.locked(path))
    except SessionInUse:
        return True
    except StorageError:  # a folder that is read-only
        pass
    return False
