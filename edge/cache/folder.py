"""The folder where the cache lies on the disk: blocks of KV and named sessions, for their owner's eyes only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.cache.record import remove_leftovers
from edge.errors import StorageError
from edge.memory.plan import checked_bytes
from edge.memory.size import parse_size

VARIABLE = "EDGEWISE_CACHE"
BLOCKS, SESSIONS = "blocks", "sessions"
BLOCK_SUFFIX, SESSION_SUFFIX, TAIL_SUFFIX = ".kv", ".session", ".tail"
_MOST_AUTO, _FREE_PART = 2 << 30, 10


@dataclass(frozen=True)
class Stored:
    """A file of the cache."""

    path: Path
    nbytes: int
    used: float
    """When it was last written or read, in seconds since the epoch."""


def default_folder() -> Path:
    """EDGEWISE_CACHE, else `edgewise` in the user's cache folder.

    Raises:
        StorageError: the user has no home.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise StorageError(
            f"there is no home directory for the cache; name a folder with {VARIABLE}"
        ) from None
    return base / "edgewise"


def make_folder(folder: Path) -> Path:
    """Make `folder` with what is in it, mode 0700, and clean up what dead processes left.

    A folder that is there already keeps its mode; those in it that are ours are closed to others.

    Raises:
        StorageError: it cannot be made or written.
    """
    try:
        for path in (folder / BLOCKS, folder / SESSIONS):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
            if path.stat().st_mode & 0o077:
                path.chmod(0o700)
        if not os.access(folder / BLOCKS, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as e:
        raise StorageError(
            f"the cache cannot be kept in {folder} ({e.strerror}); name another folder with --store or "
            f"{VARIABLE}, or do without (--no-store)"
        ) from None
    for path in (folder / SESSIONS, *_folders(folder / BLOCKS)):
        remove_leftovers(path)
    return folder


def disk_budget(folder: Path, asked: int | str) -> int:
    """Bytes that blocks may take: as asked, or for `auto` a tenth of what the disk has for them, 2 GiB at most.

    Raises:
        InvalidArgument: `asked` is no size.
    """
    if isinstance(asked, int):
        return checked_bytes("disk", asked)
    if asked.lower() != "auto":
        return parse_size(asked)
    there = next((path for path in (folder, *folder.parents) if path.is_dir()), Path("/"))
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        return 0
    held = sum(stored.nbytes for stored in stored_blocks(folder))
    return min(_MOST_AUTO, (free + held) // _FREE_PART)


def stored_blocks(folder: Path) -> Iterator[Stored]:
    """All blocks of all models."""
    for path in _folders(folder / BLOCKS):
        yield from _files(path, BLOCK_SUFFIX)


def stored_sessions(folder: Path) -> Iterator[Stored]:
    """What was said in each named session."""
    yield from _files(folder / SESSIONS, SESSION_SUFFIX)


def stored_tails(folder: Path) -> Iterator[Stored]:
    """The KV of each named session that is no whole block."""
    yield from _files(folder / SESSIONS, TAIL_SUFFIX)


def _folders(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _files(path: Path, suffix: str) -> Iterator[Stored]:
    try:
        entries = [entry for entry in os.scandir(path) if entry.name.endswith(suffix)]
    except OSError:
        return
    for entry in entries:
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:  # another process has removed it
            continue
        yield Stored(Path(entry.path), found.st_size, found.st_mtime)
