"""A named session on the disk: what was said, and the KV of it, so that nothing is read again."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.cache.block import BLOCK_TOKENS, blocks
from edge.cache.folder import SESSION_SUFFIX, SESSIONS, TAIL_SUFFIX
from edge.cache.record import Record, encode_record, read_record, write_record
from edge.cache.session import Session
from edge.errors import InvalidArgument, RecordDamaged, RecordForeign, SessionInUse, StorageError

KIND, TAIL_KIND = "session", "session-kv"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_log = logging.getLogger("edgewise.cache")


class SavedSession:
    """The session `name` in a folder that `make_folder` made, open here only.

    The file has what was said and the tokens. Whole blocks of its KV are those of the prefix cache's disk; a second
    file has the KV behind them.

    Raises:
        InvalidArgument: the name has other letters than a file's should.
        SessionInUse: it is open elsewhere. A process that died has nothing open.
        StorageError: the folder refuses.
    """

    def __init__(self, folder: Path, name: str, fingerprint: str, model: str) -> None:
        self.name = checked_name(name)
        self.path = folder / SESSIONS / (name + SESSION_SUFFIX)
        self._tail = self.path.with_suffix(TAIL_SUFFIX)
        self._fingerprint, self._model = fingerprint, model
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
            try:
                os.replace(self.path, aside)
            except OSError as refused:
                raise StorageError(
                    f"{e}, and cannot be put aside ({refused.strerror}); remove it or take another name"
                ) from None
            _log.warning("%s; the session begins anew, and the file is now %s", e, aside.name)
            return None
        except OSError as e:
            raise StorageError(
                f"{self.path} cannot be read ({e.strerror}); remove it or take another name"
            ) from None

    def restore(self, record: Record, session: Session) -> None:
        """Put the KV of `record` into `session`, as far as it is there and of this very model."""
        tokens = record.header.get("tokens")
        if record.header.get("fingerprint") != self._fingerprint or not isinstance(tokens, list):
            return
        rest: bytes | memoryview = b""
        try:
            tail = read_record(self._tail, TAIL_KIND)
            if tail.header == self._tail_header(tokens):
                rest = tail.body
        except (OSError, RecordDamaged, RecordForeign):  # then it is run again
            pass
        session.restore(tokens, rest)

    def write(self, chat: dict[str, Any], session: Session) -> None:
        """Have `chat` and the KV of `session` on the disk.

        Raises:
            StorageError: what was there before is still there.
        """
        cache, tokens = session.cache, session.tokens
        header = {"model": self._model, "fingerprint": self._fingerprint, "tokens": tokens, "chat": chat}
        try:
            if cache is not None and session.shared is not None:
                session.shared.write(cache, tokens)
                rest = cache.export(_whole(tokens), len(tokens))
                write_record(self._tail, encode_record(TAIL_KIND, self._tail_header(tokens), rest))
            write_record(self.path, encode_record(KIND, header, b""), lasting=True)
        except OSError as e:
            raise StorageError(
                f"session {self.name} cannot be written to {self.path} ({e.strerror}); what was said since "
                "the last time is in memory only"
            ) from None

    def _tail_header(self, tokens: Sequence[int]) -> dict[str, Any]:
        """What KV of the tokens behind the last whole block depends on."""
        parent = self._fingerprint
        for block in blocks(self._fingerprint, tokens):
            parent = block.key
        return {"fingerprint": self._fingerprint, "parent": parent, "tokens": list(tokens[_whole(tokens) :])}

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
    except BlockingIOError:
        os.close(file)
        raise SessionInUse(
            f"session {path.stem} is open in another process or conversation; close it there, or take another name"
        ) from None
    except OSError as e:
        os.close(file)
        raise StorageError(
            f"{beside} cannot be locked ({e.strerror}); name a folder on another disk"
        ) from None
    return file


def _whole(tokens: Sequence[int]) -> int:
    """How many are in whole blocks."""
    return len(tokens) // BLOCK_TOKENS * BLOCK_TOKENS
