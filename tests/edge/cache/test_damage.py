"""Files of blocks that are not what was written: none is ever read, and each is told once."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from edge.cache import record
from edge.cache.disk import DiskStore
from tests.edge.cache.samples import chain, data_of, open_disk, path_of, read

[BLOCK, OTHER] = chain(2)
DATA = data_of(BLOCK, 200)
Damage = Callable[[bytes], bytes]


@pytest.fixture
def disk(tmp_path: Path) -> DiskStore:
    return open_disk(tmp_path)


@pytest.fixture
def path(disk: DiskStore, tmp_path: Path) -> Path:
    """The file of the block; it is whole."""
    assert disk.write(BLOCK, DATA)
    return path_of(tmp_path, BLOCK)


def test_a_flipped_bit_is_never_read(disk: DiskStore, path: Path) -> None:
    whole = path.read_bytes()
    told = whole.index(b"\n")
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            assert read(disk, BLOCK) is None
            assert at <= told or not path.exists()


def test_a_file_cut_short_is_never_read(disk: DiskStore, path: Path) -> None:
    whole = path.read_bytes()
    told = whole.index(b"\n")
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert read(disk, BLOCK) is None
        assert size <= told or not path.exists()


# What a crash of the system or a failing disk leaves of a file.
DAMAGES: dict[str, Damage] = {
    "empty": lambda whole: b"",
    "zeros": lambda whole: bytes(len(whole)),
    "cut in its first word": lambda whole: whole[:5],
    "cut in its first line": lambda whole: whole[:50],
    "cut behind its first line": lambda whole: whole[: whole.index(b"\n") + 1],
    "cut in its header": lambda whole: whole[: whole.index(b"\n") + 50],
    "cut in its body": lambda whole: whole[:-10],
    "ending in zeros": lambda whole: whole[:-10] + bytes(10),
    "longer": lambda whole: whole + b"\0",
    "another checksum": lambda whole: whole.replace(whole.split()[3], b"0" * 64, 1),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_makes_way_for_a_whole_one(
    disk: DiskStore, path: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        path.write_bytes(damage(path.read_bytes()))
        assert read(disk, BLOCK) is None
        assert not path.exists()
        assert disk.write(BLOCK, DATA)
        assert read(disk, BLOCK) == DATA
    [told] = caplog.messages
    assert str(path) in told
    assert "computed again" in told


# All of it but the first line, which tells the truth.
LIES = {
    "no header": b"kv",
    "no JSON": b"{'tokens'}\nkv",
    "a list": b"[1]\nkv",
    "no UTF-8": b'{"\xff": 1}\nkv',
    "no end": b"[" * 100_000 + b"\nkv",
}


@pytest.mark.parametrize("rest", LIES.values(), ids=LIES)
def test_a_header_is_not_believed(disk: DiskStore, path: Path, rest: bytes) -> None:
    path.write_bytes(b"edgewise kv-block 1 " + sha256(rest).hexdigest().encode() + b"\n" + rest)
    assert read(disk, BLOCK) is None
    assert not path.exists()


@pytest.mark.parametrize("format", [0, 2, 1000])
def test_another_format_is_left_alone(
    disk: DiskStore,
    tmp_path: Path,
    format: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(record, "FORMAT", format)
        assert disk.write(BLOCK, DATA)
        assert read(disk, BLOCK) == DATA
    path = path_of(tmp_path, BLOCK)
    before = path.read_bytes()
    for _ in range(2):
        assert read(disk, BLOCK) is None
    assert path.read_bytes() == before
    [told] = caplog.messages
    assert f"has format b'{format}', this edgewise reads 1" in told


def _link(path: Path) -> None:
    """To a block that is whole."""
    beside = path.with_name("beside")
    path.rename(beside)
    path.symlink_to(beside)


def _other(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        path.unlink()
        make(path)

    return put


PLACED: dict[str, Callable[[Path], None]] = {
    "a text": _other(lambda path: path.write_text("notes of somebody\n")),
    "another record": _other(
        lambda path: record.write_record(path, record.encode_record("session", {}, b""))
    ),
    "a link": _link,
    "a link to nothing": _other(lambda path: path.symlink_to("nothing")),
    "a folder": _other(Path.mkdir),
    "a pipe": _other(os.mkfifo),
}


@pytest.mark.parametrize("place", PLACED.values(), ids=PLACED)
def test_what_is_no_block_is_left_alone(
    disk: DiskStore,
    path: Path,
    place: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    place(path)
    before = path.lstat()
    opened = _open_files()
    for _ in range(3):
        assert read(disk, BLOCK) is None
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)
    [told] = caplog.messages
    assert str(path) in told
    assert "left alone" in told
    assert _open_files() == opened


@pytest.mark.parametrize("place", PLACED.values(), ids=PLACED)
def test_what_is_no_block_keeps_no_other_from_the_disk(
    disk: DiskStore, path: Path, tmp_path: Path, place: Callable[[Path], None]
) -> None:
    place(path)
    disk.touch([BLOCK, OTHER])
    disk = open_disk(tmp_path)
    disk.write(BLOCK, DATA)
    assert disk.write(OTHER, data_of(OTHER))
    assert read(disk, OTHER) == data_of(OTHER)
    assert read(disk, BLOCK) in (None, DATA)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
