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
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from edge.errors import RecordDamaged, RecordForeign

FORMAT = 1
PART = ".part"
"""How names of files end that are being written."""
_MOST_BYTES = 1 << 28
_COUNT = itertools.count()


@dataclass(frozen=True)
class Record:
    """What a file holds."""

    header: dict[str, Any]
    body: memoryview


def write_record(path: Path, kind: str, header: dict[str, Any], body: bytes, *, lasting: bool = False) -> int:
    """Write a file aside and rename it, readable for its owner only; its size in bytes.

    A crash of the system may lose it, or leave what `read_record` refuses, unless it is `lasting`.

    Raises:
        OSError: what was there before is still there.
    """
    line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    digest = sha256(line)
    digest.update(body)
    first = f"edgewise {kind} {FORMAT} {digest.hexdigest()}\n".encode()
    aside = path.with_name(f".{path.name}.{os.getpid()}.{next(_COUNT)}{PART}")
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        # Whoever cleans up takes it for left behind where nobody holds it; a dead process holds nothing.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(file, "wb", closefd=False) as stream:
            stream.writelines((first, line, body))
        if lasting:
            os.fsync(file)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    finally:
        os.close(file)
    return len(first) + len(line) + len(body)


def read_record(path: Path, kind: str) -> Record:
    """Read what `write_record` wrote.

    Raises:
        OSError: it cannot be read, or is a link.
        RecordForeign: no record, one of another kind, or of another version of the format.
        RecordDamaged: not what was written.
    """
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(file, "rb") as stream:
        words = stream.readline(256).split()
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
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise RecordDamaged(f"{path} has no header")
    return Record(header, memoryview(rest)[end:])


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
