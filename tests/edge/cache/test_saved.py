"""Named sessions: open in one place only, there whole or as they were before, and begun anew where they are damaged."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.cache.folder import SESSIONS, TAIL_SUFFIX, make_folder
from edge.cache.record import remove_leftovers
from edge.cache.saved import SavedSession
from edge.cache.session import Session
from edge.errors import InvalidArgument, SessionInUse, StorageError
from tests.edge.cache.samples import (
    kv_of,
    leftovers,
    new_session,
    open_session,
    session_of,
    version_of,
    write_version,
)


def restored(saved: SavedSession, session: Session) -> list[int]:
    """The tokens whose KV is put into `session`."""
    found = saved.read()
    assert found is not None
    saved.restore(found, session)
    return session.tokens


def test_it_is_restored_as_it_was_written(tmp_path: Path) -> None:
    saved, other = open_session(tmp_path), new_session(5)
    assert saved.read() is None
    write_version(saved, 30)
    assert version_of(saved) == 30
    assert restored(saved, other) == session_of(30).tokens
    assert kv_of(other) == kv_of(session_of(30))


def test_the_kv_of_another_model_is_not_restored(tmp_path: Path) -> None:
    saved = open_session(tmp_path)
    write_version(saved, 30)
    saved.close()
    assert restored(open_session(tmp_path, fingerprint="0" * 32), new_session()) == []


def test_the_kv_of_other_tokens_is_not_restored(tmp_path: Path) -> None:
    saved, other = open_session(tmp_path), open_session(tmp_path, "yours")
    write_version(saved, 30)
    write_version(other, 31)
    saved.path.with_suffix(TAIL_SUFFIX).replace(other.path.with_suffix(TAIL_SUFFIX))
    assert restored(saved, new_session()) == []
    assert restored(other, new_session()) == []
    assert (version_of(saved), version_of(other)) == (30, 31)


def test_a_second_opener_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    first = open_session(tmp_path)
    with pytest.raises(SessionInUse, match="session mine is open"):
        open_session(tmp_path)
    other = open_session(tmp_path, "yours")
    first.close()
    first.close()
    second = open_session(tmp_path)
    with pytest.raises(SessionInUse):
        open_session(tmp_path)
    second.close()
    other.close()


def test_a_session_that_nobody_has_any_more_is_closed(tmp_path: Path) -> None:
    open_session(tmp_path)
    open_session(tmp_path)


BAD_NAMES: list[Any] = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/a",
    ".hidden",
    "-a",
    "a b",
    "a\n",
    "a\0",
    "ä",
    "a" * 65,
]


@pytest.mark.parametrize("name", [*BAD_NAMES, None, 7, b"a"], ids=repr)
def test_a_name_that_is_no_files_is_refused(tmp_path: Path, name: Any) -> None:
    folder = tmp_path / "cache"
    make_folder(folder)
    with pytest.raises(InvalidArgument, match="use 1 to 64 letters"):
        open_session(folder, name)
    assert not list((folder / SESSIONS).iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_names_that_are_alike_are_sessions_apart(tmp_path: Path) -> None:
    names = ["a", "A", "_", "a.b", "a.c", "a.session", "a.lock", "a.unreadable", "a" * 64, "0-1"]
    sessions = [open_session(tmp_path, name) for name in names]
    for version, saved in enumerate(sessions, 1):
        write_version(saved, version)
    assert [version_of(saved) for saved in sessions] == [*range(1, len(names) + 1)]
    for saved in sessions:
        saved.close()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit": lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
    "cut short": lambda whole: whole[:-1],
    "empty": lambda whole: b"",
    "a text": lambda whole: b"notes of somebody\n",
    "a later format": lambda whole: whole.replace(b"n 1 ", b"n 2 ", 1),
    "an earlier format": lambda whole: whole.replace(b"n 1 ", b"n 0 ", 1),
}


@pytest.fixture
def damaged(tmp_path: Path) -> SavedSession:
    saved = open_session(tmp_path)
    write_version(saved, 1)
    saved.path.write_bytes(saved.path.read_bytes()[:-1])
    return saved


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_cannot_be_understood_is_put_aside(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    saved = open_session(tmp_path)
    write_version(saved, 1)
    data = damage(saved.path.read_bytes())
    saved.path.write_bytes(data)
    assert saved.read() is None
    [told] = caplog.messages
    assert str(saved.path) in told
    assert "begins anew, and the file is now mine.unreadable" in told
    assert (tmp_path / SESSIONS / "mine.unreadable").read_bytes() == data
    assert not saved.path.exists()
    assert version_of(saved) == 0
    write_version(saved, 2)
    assert version_of(saved) == 2


def test_what_cannot_be_put_aside_is_an_error_that_is_told(tmp_path: Path, damaged: SavedSession) -> None:
    (tmp_path / SESSIONS / "mine.unreadable").mkdir()
    with pytest.raises(StorageError, match=r"mine\.session"):
        damaged.read()
    assert damaged.path.exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    saved = open_session(tmp_path)
    saved.path.symlink_to("other")
    with pytest.raises(StorageError, match="remove it or take another name"):
        saved.read()


@pytest.mark.parametrize(
    ("name", "number"), [("open", errno.EROFS), ("fsync", errno.ENOSPC), ("replace", errno.EDQUOT)]
)
def test_a_refused_write_leaves_the_version_before(
    tmp_path: Path, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = open_session(tmp_path)
    write_version(saved, 1)

    def refused(*args: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refused)
        with pytest.raises(StorageError, match="session mine cannot be written"):
            write_version(saved, 2)
    assert not leftovers(tmp_path)
    assert version_of(saved) == 1
    write_version(saved, 2)
    assert version_of(saved) == 2


def test_it_is_written_while_another_process_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that begins between two calls of the one that writes."""
    saved, lock = open_session(tmp_path), fcntl.flock

    def late(file: int, flags: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        remove_leftovers(tmp_path / SESSIONS)
        lock(file, flags)

    monkeypatch.setattr(fcntl, "flock", late)
    write_version(saved, 1)
    assert version_of(saved) == 1


def test_a_disk_without_locks_is_not_a_session_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(file: int, flags: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(StorageError, match=os.strerror(errno.ENOLCK)):
        open_session(tmp_path)


def test_the_file_is_its_owners_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_version(open_session(tmp_path / "cache"), 1)
    finally:
        os.umask(before)
    folder = tmp_path / "cache" / SESSIONS
    assert folder.stat().st_mode & 0o7777 == 0o700
    assert {path.stat().st_mode & 0o7777 for path in folder.iterdir()} == {0o600}
