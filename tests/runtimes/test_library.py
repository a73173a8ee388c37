"""The library of kernels: what is wrong with it is said before anything is run, with the next step."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.errors import EdgeError, EngineFailed, EngineTooOld, InvalidArgument, KernelsMissing, MissingExtra
from edge.version import VERSION
from runtimes.kernels import library
from runtimes.kernels.library import Library, load_library

HEADER = Path("/proc/self/exe").read_bytes()[:20]


def functions(
    version: str = VERSION, layout: int = 3, isa: Callable[[bytes], int] = lambda name: 0
) -> SimpleNamespace:
    """What ctypes would give of a library."""
    return SimpleNamespace(
        edgewise_version=lambda: version.encode(),
        edgewise_layout_version=lambda: layout,
        edgewise_isa=lambda: b"avx2",
        edgewise_isas=lambda: b"plain,avx2",
        edgewise_set_isa=lambda name: isa(name),
        edgewise_set_threads=lambda n: 0 if 1 <= n <= 256 else 1,
    )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Library]:
    """Loads a library with the functions given."""
    path = tmp_path / "lib.so"
    path.write_bytes(HEADER)
    monkeypatch.delenv(library.ISA_VARIABLE, raising=False)

    def make(**options: Any) -> Library:
        monkeypatch.setattr(library.ctypes, "CDLL", lambda name: functions(**options))
        return Library(path)

    return make


def test_a_library_that_is_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(library, "BUILT", tmp_path / "none.so")
    with pytest.raises(
        KernelsMissing, match=r"scripts/kernels.*edge convert ARTIFACT -o OUT --engine onnxrun"
    ) as e:
        load_library()
    assert str(tmp_path / "none.so") in str(e.value)
    assert isinstance(e.value, MissingExtra)


def test_a_variable_that_names_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(library.VARIABLE, str(tmp_path / "none.so"))
    with pytest.raises(InvalidArgument, match=r"EDGEWISE_KERNELS names .*none\.so, which is no file"):
        load_library()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no shared library"),
        (b"#!/bin/sh\nexit 0 # a script", "no shared library"),
        (HEADER[:18] + b"\x16\x00", "library for machine 22, this process"),
        (
            HEADER[:18] + (b"\xb7\x00" if HEADER[18] == 62 else b"\x3e\x00"),
            "library for (aarch64|x86_64), this",
        ),
        (HEADER, "that this system can load"),
        (HEADER + bytes(2000), "that this system can load"),
    ],
    ids=["empty", "script", "unknown machine", "other machine", "cut short", "zeros"],
)
def test_a_file_that_is_no_library_for_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(content)
    monkeypatch.setenv(library.VARIABLE, str(path))
    with pytest.raises(EngineFailed, match=f"{re.escape(str(path))} is .*{message}.*build it again"):
        load_library()


def test_a_library_of_something_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library.ctypes, "CDLL", lambda name: SimpleNamespace())
    (tmp_path / "libm.so").write_bytes(HEADER)
    with pytest.raises(EngineFailed, match=r"no library of edgewise kernels.*edgewise_version"):
        Library(tmp_path / "libm.so")


def test_a_library_of_another_version(fake: Callable[..., Library]) -> None:
    with pytest.raises(
        EngineTooOld, match=rf"built from edgewise 0\.0\.9, this is edgewise {VERSION}; build"
    ):
        fake(version="0.0.9")


@pytest.mark.parametrize(("layout", "version"), [("panels", 4), ("panels", 2), ("tiles", 3), ("", 0)])
def test_weights_in_another_layout(fake: Callable[..., Library], layout: str, version: int) -> None:
    with pytest.raises(EngineTooOld, match=r"a\.edge.*layout \w+ \d.*reads panels 3; export it again"):
        fake().check_layout(layout, version, Path("a.edge"))
    fake().check_layout("panels", 3, Path("a.edge"))


@pytest.mark.parametrize(
    ("outcome", "message"), [(1, "'avx9', which edgewise does not know"), (2, "'avx9', which this CPU lacks")]
)
def test_an_instruction_set_that_will_not_do(
    fake: Callable[..., Library], monkeypatch: pytest.MonkeyPatch, outcome: int, message: str
) -> None:
    monkeypatch.setenv(library.ISA_VARIABLE, "avx9")
    with pytest.raises(InvalidArgument, match=f"{message}.*plain, avx2"):
        fake(isa=lambda name: outcome if name == b"avx9" else 0)


def test_the_instruction_set_is_asked_for(
    fake: Callable[..., Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def isa(name: bytes) -> int:
        asked.append(name)
        return 0

    fake(isa=isa)
    monkeypatch.setenv(library.ISA_VARIABLE, "plain")
    assert fake(isa=isa).isa == "avx2"
    assert asked == [b"auto", b"plain"]


def test_more_threads_than_the_kernels_take(fake: Callable[..., Library]) -> None:
    with pytest.raises(InvalidArgument, match=r"threads is 300.*256"):
        fake().register(None, 300)


def test_onnxruntime_refuses_the_library(fake: Callable[..., Library]) -> None:
    def refuse(path: str) -> None:
        raise RuntimeError("no symbol RegisterCustomOps")

    with pytest.raises(EngineFailed, match=r"refuses .*lib\.so \(no symbol.*build it again"):
        fake().register(SimpleNamespace(register_custom_ops_library=refuse), 2)


def test_the_real_one() -> None:
    try:
        real = load_library()
    except EdgeError as e:
        pytest.skip(str(e))
    assert real.isa in real.isas
    assert real.isas[0] == "plain"
    assert load_library() is real
