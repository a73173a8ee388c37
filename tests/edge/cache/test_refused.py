"""A system that refuses: blocks are done without, told once, and taken up again when it lets us."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.cache.folder import BLOCKS, make_folder
from edge.cache.record import remove_leftovers
from edge.errors import StorageError
from tests.edge.cache.samples import (
    FINGERPRINT,
    chain,
    data_of,
    held_bytes,
    leftovers,
    open_disk,
    path_of,
    read,
)

[BLOCK, OTHER] = chain(2)
# The header of a block is shorter, its bytes are longer.
DATA = bytes(100_000)


def refusing(name: str, number: int, wanted: Callable[..., bool] = lambda *args: True) -> Any:
    """Calls of `os.NAME` fail with the error `number` where they are `wanted`."""
    real = getattr(os, name)

    def call(*args: Any, **named: Any) -> Any:
        if wanted(*args):
            raise OSError(number, os.strerror(number))
        return real(*args, **named)

    @contextmanager
    def refused() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, name, call)
            yield

    return refused


def creating(path: str, flags: int, *mode: int) -> bool:
    return bool(flags & os.O_CREAT)


@contextmanager
def files_of(nbytes: int) -> Iterator[None]:
    """The system lets no file be longer; Python ignores the signal that comes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


REFUSALS = {
    "no permission": refusing("open", errno.EACCES, creating),
    "mounted read-only": refusing("open", errno.EROFS, creating),
    "no file left": refusing("open", errno.EMFILE, creating),
    "no folder": refusing("mkdir", errno.ENOSPC),
    "no name": refusing("replace", errno.EDQUOT),
    "full at once": lambda: files_of(0),
    "full in the first line": lambda: files_of(50),
    "full in the header": lambda: files_of(150),
    "full in the bytes": lambda: files_of(50_000),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_write_leaves_nothing(
    tmp_path: Path, refusal: Any, caplog: pytest.LogCaptureFixture
) -> None:
    disk = open_disk(tmp_path)
    with refusal():
        assert [disk.write(block, DATA) for block in (BLOCK, OTHER)] == [False, False]
    assert not disk.has(BLOCK)
    assert not leftovers(tmp_path)
    assert held_bytes(tmp_path) == 0
    [told] = caplog.messages
    assert "blocks are not kept on the disk for now" in told
    assert [disk.write(block, DATA) for block in (BLOCK, OTHER)] == [True, True]
    assert read(disk, BLOCK) == DATA


def test_a_refused_read_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = open_disk(tmp_path)
    assert disk.write(BLOCK, DATA)
    with refusing("open", errno.EIO)():
        assert [read(disk, BLOCK), read(disk, BLOCK)] == [None, None]
    [told] = caplog.messages
    assert "computed again" in told
    assert read(disk, BLOCK) == DATA


def test_a_folder_that_may_not_be_searched_is_done_without(tmp_path: Path) -> None:
    """As of another user."""
    disk = open_disk(tmp_path)
    assert disk.write(BLOCK, DATA)
    theirs = str(tmp_path / BLOCKS / FINGERPRINT)

    def inside(path: object, *others: object) -> bool:
        return str(path).startswith(theirs)

    with refusing("stat", errno.EACCES, inside)(), refusing("open", errno.EACCES, inside)():
        assert not disk.has(BLOCK)
        assert read(disk, BLOCK) is None
        assert not disk.write(BLOCK, DATA)
        disk.touch([BLOCK])


def test_the_budget_holds_where_nothing_can_be_removed(tmp_path: Path) -> None:
    blocks = chain(30)
    disk = open_disk(tmp_path, 20_000)
    with refusing("unlink", errno.EPERM, lambda path, *args: str(path).endswith(".kv"))():
        for block in blocks:
            disk.write(block, data_of(block))
    assert held_bytes(tmp_path) <= 20_000


def test_a_folder_that_went_away_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "cache"
    disk = open_disk(folder)
    (folder / BLOCKS).rmdir()
    assert not disk.write(BLOCK, DATA)
    assert read(disk, BLOCK) is None
    assert not disk.has(BLOCK)
    disk.touch([BLOCK])
    assert len(caplog.messages) == 1
    make_folder(folder)
    assert disk.write(BLOCK, DATA)


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / BLOCKS).write_text("somebody's")
    with pytest.raises(StorageError, match="--no-store"):
        make_folder(tmp_path)
    assert (tmp_path / BLOCKS).read_text() == "somebody's"


def test_who_cleans_up_takes_nothing_that_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, rename = open_disk(tmp_path), os.replace

    def late(source: Path, target: Path) -> None:
        remove_leftovers(target.parent)
        rename(source, target)

    monkeypatch.setattr(os, "replace", late)
    assert disk.write(BLOCK, DATA)
    assert read(disk, BLOCK) == DATA


def test_who_cleans_up_keeps_nobody_from_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it begins before the file that was just made is locked."""
    disk, lock = open_disk(tmp_path), fcntl.flock

    def late(file: int, flags: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        remove_leftovers(path_of(tmp_path, BLOCK).parent)
        lock(file, flags)

    monkeypatch.setattr(fcntl, "flock", late)
    assert disk.write(BLOCK, DATA)
    assert read(disk, BLOCK) == DATA
