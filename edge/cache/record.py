"""A record: a file with a header and bytes, there whole or not at all, and known to be what was written.

edgewise KIND FORMAT SHA256-OF-ALL-THAT-FOLLOWS
{"the header": "one line of JSON"}
bytes
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from edge.errors import RecordDamaged, RecordForeign

FORMAT = 1
PART = ".part"
"""How names of files end that are being written."""
_MOST_BYTES = 1 << 28
_MAGIC, _LONGEST_FIRST = b"edgewise ", 256
_COUNT = itertools.count()


@dataclass(frozen=True)
class Record:
    """What a file holds."""

    header: dict[str, Any]
    body: memoryview


def encode_record(kind: str, header: dict[str, Any], body: bytes) -> tuple[bytes, ...]:
    """The parts of the file, in their order."""
    line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    digest = sha256(line)
    digest.update(body)
    return f"edgewise {kind} {FORMAT} {digest.hexdigest()}\n".encode(), line, body


def write_record(path: Path, parts: Sequence[bytes], *, lasting: bool = False) -> None:
    """Write what `encode_record` gave aside and rename it, readable for its owner only.

    A crash of the system may lose it, or leave what `read_record` refuses, unless it is `lasting`.

    Raises:
        OSError: what was there before is still there.
    """
    try:
        _write(path, parts, lasting)
    except (FileNotFoundError, BlockingIOError):
        # Who cleans up came between the making of the file and its lock.
        _write(path, parts, lasting)


def _write(path: Path, parts: Sequence[bytes], lasting: bool) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.{next(_COUNT)}{PART}")
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        # Whoever cleans up takes it for left behind where nobody holds it; a dead process holds nothing.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(file, "wb", closefd=False) as stream:
            stream.writelines(parts)
        if lasting:
            os.fsync(file)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    finally:
        os.close(file)


def read_record(path: Path, kind: str) -> Record:
    """Read what `write_record` wrote.

    Raises:
        OSError: it cannot be read, or is a link.
        RecordForeign: no record, one of another kind, or of another version of the format.
        RecordDamaged: not what was written.
    """
    with open(path, "rb", opener=_opened) as stream:
        first = stream.readline(_LONGEST_FIRST)
        # Nothing, zeros, or a beginning of ours: what a crash of the system leaves.
        cut = not first.endswith(b"\n") and _MAGIC.startswith(first[: len(_MAGIC)])
        if cut or not first.strip(b"\0"):
            raise RecordDamaged(f"{path} is not what was written to it")
        words = first.split()
        if len(words) != 4 or words[:2] != [b"edgewise", kind.encode()]:
            raise RecordForeign(f"{path} is no {kind} of edgewise")
        if words[2] != str(FORMAT).encode():
            raise RecordForeign(f"{path} has format {words[2]!r:.20}, this edgewise reads {FORMAT}")
        rest = stream.read(_MOST_BYTES)
    if sha256(rest).hexdigest().encode() != words[3]:
        raise RecordDamaged(f"{path} is not what was written to it")
    # A view: the body may be large.
    end = rest.find(b"\n") + 1
    try:
        header = json.loads(rest[:end])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise RecordDamaged(f"{path} has no header")
    return Record(header, memoryview(rest)[end:])


def _opened(path: str, flags: int) -> int:
    """A regular file only, and no link: nothing else is waited for, or read."""
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise RecordForeign(f"{path} is no file")
    return file


def remove_leftovers(folder: Path) -> None:
    """Remove the files that nobody is writing any more: their writers have died."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if not entry.name.endswith(PART):
                continue
            with contextlib.suppress(OSError):
                file = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry.path)
                finally:
                    os.close(file)
