"""`edge build`: what it is told, what it prints, and what `inspect` and `verify` make of engines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

import edge.cli.build
from edge.cli.options import TargetName
from edge.errors import TargetRefused
from runtimes.tensorrt.header import EngineHeader, Shapes
from tests.edge.artifact.samples import entries, write_artifact
from tests.edge.cli.artifacts import FILES, MANIFEST_OF_WINDOWED
from tests.edge.cli.conftest import Ended

Run = Callable[..., Ended]

PLAN = b"plan" * 1000
HEADER = EngineHeader(
    flavour="tensorrt_rtx",
    version="1.7.1.116",
    sms=("8.6", "8.9"),
    platform="linux-x86_64",
    artifact="ab" * 16,
    form="opset24",
    capacity=4096,
    profiles=(Shapes(256, 32), Shapes(1, 1)),
    weights=("int4",),
    kv="float16",
    built=1_790_000_000,
    activation_bytes=0,
    plan_bytes=len(PLAN),
    plan_sha256=hashlib.sha256(PLAN).hexdigest(),
)
NAME = "tensorrt/engines/sm86-sm89/4096-12345678.engine"
REPORT: dict[str, Any] = {
    "artifact": "q.edge",
    "engines": [
        {
            "path": f"q.edge/{NAME}",
            "file_bytes": 952_250_292,
            "header": {
                "flavour": flavour,
                "version": version,
                "sms": sms,
                "form": form,
                "capacity": 4096,
                "activation_bytes": activations,
            },
            "bits_per_parameter": 4.2868,
            "memory_bytes": 16_000_000_000,
            "peak_rss_bytes": 3_576_774_656,
            "seconds": 77.6,
        }
        for flavour, version, sms, form, activations in (
            ("tensorrt_rtx", "1.7.1.116", ["8.6", "8.9"], "opset24", 88_000_000),
            ("tensorrt", "10.3.0", ["8.7"], "opset21", 0),
        )
    ],
    "seconds": 155.2,
}
TABLE = """\
for        TensorRT       form     context      size  bits/weight  activations    took        peak memory
sm86 sm89  RTX 1.7.1.116  opset24     4096  952.3 MB         4.29      88.0 MB  77.6 s  3.6 GB of 16.0 GB
sm87       10.3.0         opset21     4096  952.3 MB         4.29            ?  77.6 s  3.6 GB of 16.0 GB

written to q.edge/tensorrt/engines/sm86-sm89/4096-12345678.engine
written to q.edge/tensorrt/engines/sm86-sm89/4096-12345678.engine

Not run here: without a GPU nothing more than the build is known to work.
"""


class Exporter:
    """Stands where the module `export.tensorrt.build` would be."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.given: dict[str, Any] = {}

    def build(self, artifact: Path, targets: tuple[str, ...], **options: Any) -> Exporter:
        options.pop("progress")("Optimizing graph", 500, 1000)
        self.given = {"artifact": artifact, "targets": targets, **options}
        if self.error is not None:
            raise self.error
        return self

    def to_json(self) -> dict[str, Any]:
        return REPORT


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Exporter:
    exporter = Exporter()
    monkeypatch.setattr(edge.cli.build, "import_module", {"export.tensorrt.build": exporter}.__getitem__)
    return exporter


def test_what_is_printed(run_edge: Run, exporter: Exporter) -> None:
    assert run_edge("build", "q.edge", "--target", "sm86,sm89") == Ended(0, TABLE, "")
    assert exporter.given == {"artifact": Path("q.edge"), "targets": ("sm86,sm89",)}
    assert run_edge("build", "q.edge", "--target", "sm89", "--quiet") == Ended(0, "", "")
    assert run_edge("build", "q.edge", "--target", "sm89", "--json").json == REPORT


def test_what_is_passed_on(run_edge: Run, exporter: Exporter) -> None:
    options = ("--context", "4096, 16384", "--chunk", "64", "--form", "opset21", "--memory", "4GiB")
    assert run_edge("build", "q.edge", "--target", "sm89", "--target", "rtx-3060", *options).code == 0
    assert exporter.given == {
        "artifact": Path("q.edge"),
        "targets": ("sm89", "rtx-3060"),
        "contexts": [4096, 16384],
        "chunk": 64,
        "form": "opset21",
        "memory": 4 << 30,
    }


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--context", "many"), 1, "--context is 'many'; give tokens, several with commas between"),
        (("--context", "-5"), 1, "--context is '-5'"),
        (("--context", ""), 1, "--context is ''"),
        (("--memory", "lots"), 1, "lots"),
        (("--form", "opset9"), 2, "'opset9' is not one of 'opset24', 'opset21'"),
    ],
)
def test_wrong_options(
    run_edge: Run, exporter: Exporter, options: tuple[str, ...], code: int, message: str
) -> None:
    ended = run_edge("build", "q.edge", "--target", "sm89", *options)
    assert ended.code == code
    assert message in ended.err
    assert exporter.given == {}


def test_an_error_is_told(run_edge: Run, exporter: Exporter) -> None:
    exporter.error = TargetRefused("target sm75: no")
    ended = run_edge("build", "q.edge", "--target", "sm75", "--json")
    assert (ended.code, ended.json) == (
        1,
        {"error": {"type": "TargetRefused", "message": "target sm75: no"}},
    )


def test_interrupted(run_edge: Run, exporter: Exporter) -> None:
    exporter.error = KeyboardInterrupt()
    assert run_edge("build", "q.edge", "--target", "sm89") == Ended(130, "", "interrupted\n")


def test_a_board_has_no_builder(run_edge: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name="onnx")

    monkeypatch.setattr(edge.cli.build, "import_module", missing)
    ended = run_edge("build", "q.edge", "--target", "sm89")
    assert ended.err == (
        "error: edge build needs onnx, which is not installed; install it with: pip install 'edgewise[export]'\n"
    )


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("sm8", ["sm86", "sm87", "sm89"]),
        ("sm86,sm12", ["sm86,sm120", "sm86,sm121"]),
        ("sm86,rtx-40", ["sm86,rtx-4060", "sm86,rtx-4070", "sm86,rtx-4090"]),
        ("rk", []),
    ],
)
def test_targets_complete(typed: str, found: list[str]) -> None:
    kind = TargetName()
    items = kind.shell_complete(click.Context(click.Command("x")), click.Option(["--target"]), typed)
    assert [item.value for item in items] == found


@pytest.fixture
def with_engine(tmp_path: Path) -> Path:
    files = {**FILES, NAME: HEADER.dumps() + PLAN}
    return write_artifact(tmp_path / "m.edge", replace(MANIFEST_OF_WINDOWED, files=entries(files)), files)


def test_inspect_shows_engines(run_edge: Run, with_engine: Path) -> None:
    assert (
        "\nengine           for sm86 sm89 with TensorRT-RTX 1.7, 4096 tokens\n"
        in run_edge("inspect", with_engine).out
    )
    (engine,) = run_edge("inspect", with_engine, "--json").json["engines"]
    assert (engine["path"], engine["sms"], engine["capacity"]) == (NAME, ["8.6", "8.9"], 4096)
    assert run_edge("verify", with_engine).code == 0


def test_inspect_tells_of_engines_that_newer_ones_leave_out(run_edge: Run, tmp_path: Path) -> None:
    newer = replace(HEADER, sms=("8.9",), built=HEADER.built + 1)
    engines = {NAME: HEADER.dumps() + PLAN, NAME.replace("sm86-", ""): newer.dumps() + PLAN}
    files = {**FILES, **engines}
    path = write_artifact(tmp_path / "m.edge", replace(MANIFEST_OF_WINDOWED, files=entries(files)), files)
    shown = run_edge("inspect", path).out
    assert "for sm86 sm89 with TensorRT-RTX 1.7, 4096 tokens, left out on sm89 for newer engines\n" in shown
    assert "for sm89 with TensorRT-RTX 1.7, 4096 tokens\n" in shown
    found = {engine["path"]: engine for engine in run_edge("inspect", path, "--json").json["engines"]}
    assert [found[name]["left_out"] for name in engines] == [["8.9"], []]


def test_a_damaged_engine_does_not_hide_the_rest(run_edge: Run, with_engine: Path) -> None:
    data = bytearray((with_engine / NAME).read_bytes())
    data[70] ^= 1
    (with_engine / NAME).write_bytes(data)
    assert "not readable: " in run_edge("inspect", with_engine).out
    assert "is altered: its header" in run_edge("inspect", with_engine, "--json").json["engines"][0]["error"]
    ended = run_edge("verify", with_engine)
    assert ended.code == 1
    assert f"{NAME} has changed" in ended.err
    (with_engine / NAME).write_bytes(bytes(data[:-1]))
    assert "has 8095 bytes, the manifest says 8096" in run_edge("verify", with_engine).err
