"""How fast the disk of the cache is: bounded, honest, and nothing left behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge.doctor import disk
from edge.doctor.disk import cache_folder, measure

MIB = 1 << 20


@pytest.fixture
def on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is never found in memory, whatever the tests' folder lies on."""

    def preadv(descriptor: int, buffers: list[bytearray], offset: int, flags: int) -> int:
        assert flags == os.RWF_NOWAIT
        raise BlockingIOError(errno.EAGAIN, "not in memory")

    monkeypatch.setattr(os, "preadv", preadv)


def ticking(step: float) -> Callable[[], float]:
    """A clock that is `step` seconds further each time that it is read."""
    state = SimpleNamespace(now=0.0)

    def clock() -> float:
        state.now += step
        return float(state.now)

    return clock


def test_bytes_are_bounded_and_nothing_is_left(tmp_path: Path, on_a_disk: None) -> None:
    done: list[int] = []
    speed = measure(tmp_path, done.append, most_bytes=4 * MIB, clock=ticking(0.01))
    assert (speed.nbytes, sum(done)) == (4 * MIB, 8 * MIB)
    # The clock is read before the first piece, ahead of each other one, and at the end.
    assert speed.write == pytest.approx(4 * MIB / 0.04)
    assert speed.read == pytest.approx(4 * MIB / 0.04)
    assert list(tmp_path.iterdir()) == []


def test_time_is_bounded(tmp_path: Path, on_a_disk: None) -> None:
    speed = measure(tmp_path, most_bytes=100 * MIB, most_seconds=1.0, clock=ticking(0.4))
    assert speed.nbytes == 3 * MIB
    speed = measure(tmp_path, most_bytes=100 * MIB, most_seconds=1.0, clock=ticking(30.0))
    assert speed.nbytes == MIB  # at least one


@pytest.mark.parametrize(
    ("code", "why"),
    [(None, "the file system keeps it in memory"), (errno.EOPNOTSUPP, "the file system does not say")],
)
def test_memory_is_not_measured_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None, why: str
) -> None:
    def preadv(descriptor: int, buffers: list[bytearray], offset: int, flags: int) -> int:
        if code is not None:
            raise OSError(code, os.strerror(code))
        return len(buffers[0])

    monkeypatch.setattr(os, "preadv", preadv)
    speed = measure(tmp_path, most_bytes=2 * MIB)
    assert speed.read is None
    assert speed.why.startswith(why)
    assert speed.write > 0


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def be(nbytes: int) -> None:
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=nbytes))

    return be


def fixed(monkeypatch: pytest.MonkeyPatch, write: float) -> list[int]:
    asked: list[int] = []

    def measured(folder: Path, progress: object, *, most_bytes: int) -> disk.Speed:
        asked.append(most_bytes)
        return disk.Speed(most_bytes, write, 2.5e9)

    monkeypatch.setattr(disk, "measure", measured)
    return asked


def test_a_folder(cache_folder: Path, monkeypatch: pytest.MonkeyPatch, free: Callable[[int], None]) -> None:
    asked = fixed(monkeypatch, 120e6)
    free(20 * 10**9)
    found = disk.cache_folder(True)
    assert found.text == (
        f"{cache_folder}, not made yet: 20.0 GB free, writes 120 MB/s, reads 2.5 GB/s (32 MiB, once)"
    )
    cache_folder.mkdir()
    found = disk.cache_folder(False)
    assert (found.state, found.text) == ("ok", f"{cache_folder}: 20.0 GB free, speed not measured")
    assert asked == [32 * MIB]


def test_a_slow_and_a_full_disk(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch, free: Callable[[int], None]
) -> None:
    asked = fixed(monkeypatch, 4e6)
    free(100 * MIB)
    found = disk.cache_folder(True)
    assert (found.state, found.next.split(":")[0]) == ("note", "a slow disk")
    free(10 * MIB)
    found = disk.cache_folder(True)
    assert (found.state, found.text[-22:]) == ("note", "which is hardly anything"[-22:])
    assert asked == [5 * MIB]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
def test_a_folder_that_refuses(cache_folder: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refused(*args: object, **kwargs: object) -> disk.Speed:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(disk, "measure", refused)
    found = disk.cache_folder(True)
    assert found.state == "note"
    assert os.strerror(code).lower() in found.text
    assert "--no-store" in found.next


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEWISE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def lost() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", lost)
    found = cache_folder(True)
    assert (found.state, found.text) == ("note", "there is no home directory for the cache")
    assert found.next == "name a folder with EDGEWISE_CACHE"
