"""The folder of the cache: whether it can be written, and how fast."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.cache.folder import default_folder
from edge.doctor.finding import Finding, because_and_next
from edge.errors import StorageError

MOST_BYTES, MOST_SECONDS = 32 << 20, 1.0
"""What a measurement writes and reads at most, and how long each may take, the piece in hand aside."""
_PIECE = 1 << 20
_FREE_PART = 20
_SLOW = 10e6
_PROBE = 4096
_WITHOUT = "name another folder with EDGEWISE_CACHE, or do without (--no-store)"


@dataclass(frozen=True)
class Speed:
    """Bytes a second."""

    nbytes: int
    write: float
    read: float | None
    """None where what was read came from memory, or that cannot be told."""
    why: str = ""
    """Why there is no `read`."""


def measure(
    folder: Path,
    progress: Callable[[int], None] = lambda nbytes: None,
    *,
    most_bytes: int = MOST_BYTES,
    most_seconds: float = MOST_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Write a nameless file of random bytes in `folder`, each piece to the disk itself, and read it back.

    Nothing is left behind, whatever ends the process. Raises OSError where the folder does not take it.
    """
    piece = os.urandom(_PIECE)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        descriptor, start, pieces = file.fileno(), clock(), 0
        while pieces * _PIECE < most_bytes and (not pieces or clock() - start < most_seconds):
            file.write(piece)
            os.fdatasync(descriptor)
            pieces += 1
            progress(_PIECE)
        write = pieces * _PIECE / max(clock() - start, 1e-9)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if why := _still_in_memory(descriptor, pieces):
            return Speed(pieces * _PIECE, write, None, why)
        start, done = clock(), 0
        while done < pieces and (not done or clock() - start < most_seconds):
            os.pread(descriptor, _PIECE, done * _PIECE)
            done += 1
            progress(_PIECE)
        return Speed(pieces * _PIECE, write, done * _PIECE / max(clock() - start, 1e-9))


def cache_folder(measured: bool, progress: Callable[[int], None] = lambda nbytes: None) -> Finding:
    """The folder that run, chat and serve use where no other is named."""
    try:
        folder = default_folder()
    except StorageError as e:
        text, step = because_and_next(str(e))
        return Finding("cache", "note", text, step)
    there = next((path for path in (folder, *folder.parents) if path.is_dir()), Path("/"))
    place = str(folder) if there == folder else f"{folder}, not made yet"
    try:
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        # A nearly full disk is not filled to measure it.
        most = min(MOST_BYTES, free // _FREE_PART)
        speed = measure(there, progress, most_bytes=most) if measured and most >= _PIECE else None
    except OSError as e:
        text = (
            f"{place}: it cannot be written ({(e.strerror or str(e)).lower()}); models run, nothing is kept"
        )
        return Finding("cache", "note", text, _WITHOUT, {"folder": str(folder), "writable": False})
    facts = {"folder": str(folder), "writable": True, "free_bytes": free, **_facts(speed)}
    text = f"{place}: {free / 1e9:.1f} GB free"
    if most < _PIECE:
        return Finding(
            "cache", "note", f"{text}, which is hardly anything", f"make room, or {_WITHOUT}", facts
        )
    if speed is None:
        return Finding("cache", "ok", f"{text}, speed not measured", facts=facts)
    text += f", writes {_rate(speed.write)}, "
    text += f"reads {_rate(speed.read)}" if speed.read is not None else f"reading not measured: {speed.why}"
    text += f" ({speed.nbytes >> 20} MiB, once)"
    if speed.write < _SLOW:
        return Finding("cache", "note", text, f"a slow disk: {_WITHOUT}", facts)
    return Finding("cache", "ok", text, facts=facts)


def _still_in_memory(descriptor: int, pieces: int) -> str:
    """Why reading would measure memory: the first page of the middle piece is asked for without waiting."""
    try:
        os.preadv(descriptor, [bytearray(_PROBE)], pieces // 2 * _PIECE, os.RWF_NOWAIT)
    except BlockingIOError:
        return ""
    except OSError:
        return "the file system does not say what is in memory"
    return "the file system keeps it in memory"


def _facts(speed: Speed | None) -> dict[str, object]:
    if speed is None:
        return {}
    return {
        "write_bytes_per_s": speed.write,
        "read_bytes_per_s": speed.read,
        "measured_bytes": speed.nbytes,
        "why_not_read": speed.why or None,
    }


def _rate(rate: float) -> str:
    return f"{rate / 1e6:.0f} MB/s" if rate < 999.5e6 else f"{rate / 1e9:.1f} GB/s"
