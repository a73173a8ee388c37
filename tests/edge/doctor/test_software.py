"""What is installed here, and whether it stays offline: the real thing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.cli.main import main
from edge.doctor import offline
from edge.doctor import software as room
from edge.doctor.engines import PORTABLE
from edge.doctor.network import watching
from edge.doctor.software import installed
from edge.errors import EngineFailed
from runtimes import ENGINES, trial
from runtimes.onnxruntime import telemetry
from runtimes.portable.engine import OLDEST
from runtimes.trial import Trial, try_engine
from tests.edge.cli.conftest import Ended, run_edge  # noqa: F401


def test_here() -> None:
    found = installed()
    assert isinstance(found.engines["onnxruntime"], Trial)
    assert found.engines["onnxruntime"].version == found.packages["onnxruntime"]
    assert found.faults == {}
    assert (found.network.calls, found.network.sockets, found.network.silenced) == ([], 0, True)
    assert found.python == ".".join(map(str, sys.version_info[:3]))


def test_names_that_are_spelled_out() -> None:
    # The others run on what these bring, or on a GPU.
    assert tuple(ENGINES)[:2] == room.ENGINES
    assert telemetry.VARIABLE == offline.VARIABLE
    assert PORTABLE == OLDEST


def test_the_kernels_are_tried(kernels: None) -> None:
    found = try_engine("cpu")
    assert found.isa in found.isas
    assert found.kernels == room.VERSION


def test_a_library_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "libedgewise_kernels.so"
    library.write_bytes(b"\x7fELF" + bytes(100))
    monkeypatch.setenv("EDGEWISE_KERNELS", str(library))
    why = installed().engines["cpu"]
    assert isinstance(why, str)
    assert why.startswith(f"{library} is a library for")


def test_whatever_a_broken_installation_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Trial:
        raise SystemError("initialization failed")

    monkeypatch.setattr(trial, "try_engine", broken)
    why = installed().engines["onnxruntime"]
    assert why == (
        "it fails when it is loaded (SystemError: initialization failed); install it again: pip install edgewise[cpu]"
    )


def test_an_onnxruntime_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_GRAPH", b"no graph")
    with pytest.raises(EngineFailed, match="fails on a graph of one node"):
        try_engine("onnxruntime")


@pytest.mark.parametrize("module", ["numpy", "tokenizers", "jinja2", "onnxruntime"])
def test_a_package_that_is_missing(module: str, cache_folder: Path) -> None:
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from edge.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "doctor", "--no-disk"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "no artifact can be loaded and asked here" in done.stdout
    assert "pip install" in done.stdout


def test_what_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.metadata, "requires", lambda name: ["numpy>=99.1", "click>=8; extra == 'x'"])
    assert installed().faults["numpy"].endswith("is older than 99.1")


def test_a_connection_is_heard_and_a_socket_seen() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    try:
        with watching() as network:
            kept = socket.create_connection(server.getsockname())
        assert any(call.startswith("socket.connect") for call in network.calls)
        assert network.sockets == 1
        with watching() as network:
            pass
        assert (network.calls, network.sockets) == ([], 0)
        kept.close()
    finally:
        server.close()


def test_what_uploads_reports_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "onnxruntime"
    (package / "capi").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    library = package / "capi" / "onnxruntime_pybind11_state.so"
    library.write_bytes(bytes(5000) + b"https://mobile.events.data.microsoft.com/OneCollector" + bytes(10))
    assert telemetry.can_report() is True
    library.write_bytes(bytes(5000))
    assert telemetry.can_report() is False
    library.write_bytes(b"")
    assert telemetry.can_report() is None


@pytest.mark.parametrize(("value", "off"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_the_variable(monkeypatch: pytest.MonkeyPatch, value: str, off: bool) -> None:
    monkeypatch.setenv(telemetry.VARIABLE, value)
    assert telemetry.is_silenced() is off


def test_the_run_path_names_no_module_of_the_network() -> None:
    """What a run imports: all of edge, runtimes and boards but the command that may fetch a tokenizer's samples."""
    unwanted = ("socket", "ssl", "http", "urllib.request", "requests", "httpx", "huggingface_hub")
    root = Path(room.__file__).parents[2]
    for path in sorted(
        path for name in ("edge", "runtimes", "boards") for path in (root / name).rglob("*.py")
    ):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        named = [
            line
            for line in lines
            if line.startswith(tuple(f"{w} {m}" for w in ("import", "from") for m in unwanted))
        ]
        assert named == [], path


def test_the_command_here(run_edge: Callable[..., Ended], cache_folder: Path) -> None:  # noqa: F811
    ended = run_edge("doctor", "--no-disk")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1].startswith("artifacts can be loaded and asked here")
    ended = run_edge("doctor", "--json")
    assert ended.json["ok"] is True
    [cache] = [finding for finding in ended.json["findings"] if finding["name"] == "cache"]
    assert cache["facts"]["write_bytes_per_s"] > 0
    assert not cache_folder.exists()
    assert main(["doctor", "--nodisk"]) == 2
    assert os.listdir(cache_folder.parent) == []
