"""A named session on the disk: what was said, and the KV of it, so that nothing is read again."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from pathlib import Path
from typing import Any

from edge.cache.block import BLOCK_TOKENS
from edge.cache.folder import SESSION_SUFFIX, SESSIONS
from edge.cache.record import Record, read_record, write_record
from edge.cache.session import Session
from edge.errors import InvalidArgument, RecordDamaged, RecordForeign, SessionInUse, StorageError

KIND = "session"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_log = logging.getLogger("edgewise.cache")


class SavedSession:
    """The session `name` in a folder that `make_folder` made, open here only.

    Whole blocks of its KV are those of the prefix cache's disk; the file has the tokens, and the KV of the rest.

    Raises:
        InvalidArgument: the name has other letters than a file's should.
        SessionInUse: it is open elsewhere. A process that died has nothing open.
        StorageError: the folder refuses.
    """

    def __init__(self, folder: Path, name: str, fingerprint: str, model: str) -> None:
        self.name = checked_name(name)
        self.path = folder / SESSIONS / (name + SESSION_SUFFIX)
        self._origin = {"model": model, "fingerprint": fingerprint}
        self._lock = locked(self.path)

    def read(self) -> Record | None:
        """What `write` wrote last, or None where there is nothing, or nothing of use.

        Raises:
            StorageError: it cannot be read. What cannot be understood is put aside, and told.
        """
        try:
            return read_record(self.path, KIND)
        except FileNotFoundError:
            return None
        except (RecordDamaged, RecordForeign) as e:
            aside = self.path.with_suffix(".unreadable")
            _log.warning("%s; the session begins anew, and the file is now %s", e, aside.name)
            os.replace(self.path, aside)
            return None
        except OSError as e:
            raise StorageError(
                f"{self.path} cannot be read ({e.strerror}); remove it or take another name"
            ) from None

    def restore(self, record: Record, session: Session) -> None:
        """Put the KV of `record` into `session`, as far as it is there and of this very model."""
        tokens = record.header.get("tokens")
        if record.header.get("fingerprint") == self._origin["fingerprint"] and isinstance(tokens, list):
            session.restore(tokens, record.body)

    def write(self, chat: dict[str, Any], session: Session) -> None:
        """Have `chat` and the KV of `session` on the disk.

        Raises:
            StorageError: what was there before is still there.
        """
        body = b""
        cache, tokens = session.cache, session.tokens
        if cache is not None and session.shared is not None:
            session.shared.write(cache, tokens)
            body = cache.export(len(tokens) // BLOCK_TOKENS * BLOCK_TOKENS, len(tokens))
        header = {**self._origin, "tokens": tokens, "chat": chat}
        try:
            write_record(self.path, KIND, header, body, lasting=True)
        except OSError as e:
            raise StorageError(
                f"session {self.name} cannot be written to {self.path} ({e.strerror}); what was said since "
                "the last time is in memory only"
            ) from None

    def close(self) -> None:
        """Let others open it."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def __del__(self) -> None:
        if self.__dict__.get("_lock", -1) >= 0:
            self.close()


def checked_name(name: str) -> str:
    """`name`, fit to be a file's.

    Raises:
        InvalidArgument
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"session name {name!r:.80} is none; use 1 to 64 letters, digits, dots, dashes and underscores"
        )
    return name


def locked(path: Path) -> int:
    """A file descriptor that holds the lock on the session at `path`, until it is closed or its process has died.

    Raises:
        SessionInUse, StorageError
    """
    beside = path.with_suffix(".lock")
    try:
        file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as e:
        raise StorageError(f"{beside} cannot be written ({e.strerror}); name another folder") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise SessionInUse(
            f"session {path.stem} is open in another process or conversation; close it there, or take another name"
        ) from None
    return file
