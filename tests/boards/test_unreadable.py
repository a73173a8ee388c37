"""Files of the system that are missing, forbidden, empty or garbage: told in the answer, never raised."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import boards
from edge.memory.probe import probe
from tests.boards import trees
from tests.boards.trees import plant

GARBAGE = bytes(range(256)) * 4
NAMES = sorted({*trees.ORIN_NANO, *trees.LIMIT, *trees.PC_WITH_RTX} - {".dockerenv"})


def told(root: Path) -> dict[str, str]:
    return {file.path: file.why for file in boards.detect(root).unreadable}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"\0", b"\n", GARBAGE, b"9" * 5000, "\u00b2\u00bd".encode()])
def test_garbage_is_survived(tmp_path: Path, name: str, content: bytes) -> None:
    root = plant(tmp_path, {**trees.ORIN_NANO, **trees.LIMIT, name: content})
    found = boards.detect(root)
    assert all(evidence.says.isprintable() for evidence in found.evidence)
    assert found.board.name
    probe(root)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=60), min_size=1))
def test_any_bytes_in_any_files(tmp_path: Path, files: dict[str, bytes]) -> None:
    root = plant(tmp_path, {**trees.ORIN_NANO, **trees.LIMIT, **files})
    found = boards.detect(root)
    assert all(evidence.says.isprintable() for evidence in found.evidence)
    assert all(file.why.isprintable() for file in found.unreadable)
    probe(root)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("etc/nv_tegra_release", "JetPack six\n", "its first line is 'JetPack six', not '# R36 (release)"),
        ("etc/nvpmodel.conf", GARBAGE, "it has no line such as '< POWER_MODEL ID=0 NAME=15W >'"),
        ("var/lib/nvpmodel/status", "fast\n", "it says 'fast', not 'pmode:0000'"),
        ("sys/class/thermal/thermal_zone1/temp", "hot\n", "it says 'hot', not a temperature"),
        ("sys/class/thermal/thermal_zone1/temp", "900000\n", "it says '900000', not a temperature"),
        ("proc/meminfo", "", "it has no line such as 'MemTotal: 8000000 kB'"),
    ],
)
def test_what_is_said_of_it(tmp_path: Path, name: str, content: str | bytes, why: str) -> None:
    files = told(plant(tmp_path, {**trees.ORIN_NANO, name: content}))
    assert list(files) == [f"/{name}"]
    assert why in files[f"/{name}"]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_in_its_place(tmp_path: Path, name: str) -> None:
    files = {**trees.ORIN_NANO, **trees.LIMIT}
    files.pop(name, None)
    (tmp_path / name).mkdir(parents=True)
    root = plant(tmp_path, files)
    boards.detect(root)
    probe(root)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP])
def test_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    root = plant(tmp_path, {**trees.ORIN_NANO, **trees.LIMIT})
    monkeypatch.setattr(
        Path, "open", refusing(code, "device-tree/compatible", "nvpmodel/status", "zone0/temp")
    )
    found = boards.detect(root)
    why = os.strerror(code).lower()
    assert {file.path: file.why for file in found.unreadable} == {
        "/proc/device-tree/compatible": why,
        "/var/lib/nvpmodel/status": why,
        "/sys/class/thermal/thermal_zone0/temp": why,
    }
    assert (found.known, found.power_mode, found.power_modes[:2]) == (False, None, ("15W", "25W"))
    assert len(found.temperatures) == 2
    assert probe(root).unified


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENXIO])
def test_a_sensor_that_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """As the zones of units that have no power just now."""
    root = plant(tmp_path, trees.ORIN_NANO)
    monkeypatch.setattr(Path, "open", refusing(code, "zone1/temp"))
    found = boards.detect(root)
    assert found.unreadable == ()
    assert list(found.temperatures) == ["cpu-thermal", "tj-thermal"]


def test_folders_that_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path, trees.ORIN_NANO)
    entries = Path.iterdir

    def closed(path: Path) -> Any:
        if path.name == "thermal":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return entries(path)

    monkeypatch.setattr(Path, "iterdir", closed)
    assert told(root) == {"/sys/class/thermal": "permission denied"}


def test_an_empty_root(tmp_path: Path) -> None:
    found = boards.detect(tmp_path)
    assert (found.known, found.memory, found.board.usable_bytes) == (False, None, 0)
    assert not found.board.memory_gb.confirmed
    assert found.board.title == "unknown machine"
    assert told(tmp_path) == {"/proc/meminfo": "it has no line such as 'MemTotal: 8000000 kB'"}
    assert boards.detect(tmp_path / "none").known is False


def test_zones_of_one_type(tmp_path: Path) -> None:
    files = trees.zones(("gpu", "1000"), ("gpu", "2000"), ("gpu", "3000"), ("", "4000"))
    assert boards.detect(plant(tmp_path, files)).temperatures == {
        "gpu": 1,
        "gpu #2": 2,
        "gpu #3": 3,
        "thermal_zone3": 4,
    }


def refusing(code: int, *ends: str) -> Any:
    """Path.open, which fails for paths with one of these ends."""
    opened = Path.open

    def open_or_refuse(path: Path, *args: Any, **kwargs: Any) -> Any:
        if str(path).endswith(ends):
            raise OSError(code, os.strerror(code), str(path))
        return opened(path, *args, **kwargs)

    return open_or_refuse
