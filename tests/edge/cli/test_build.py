"""`edge build`: what it is told, what it prints, and what `inspect` and `verify` make of engines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

import edge.cli.build
from edge.artifact import Artifact
from edge.cli.options import TargetName
from edge.errors import TargetRefused
from runtimes.tensorrt.header import EngineHeader, Shapes, artifact_fingerprint
from tests.edge.artifact.samples import VARIANT, entries, write_artifact
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

Built, and not run yet: edge run q.edge --engine tensorrt tries it on the GPU it is for (unverified on device)
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


def test_a_chunk_that_the_cache_does_not_hold(run_edge: Run, exporter: Exporter) -> None:
    told = "--chunk 5000 is more than the cache of 4096 tokens holds: it was built for 4096\n"
    assert run_edge("build", "q.edge", "--target", "sm89", "--chunk", "5000").err == told * 2
    assert run_edge("build", "q.edge", "--target", "sm89", "--chunk", "4096").err == ""


@pytest.mark.parametrize("option", [("--chunk", "64"), ("--form", "opset24"), ("--memory", "4GiB")])
def test_a_removal_is_no_build(run_edge: Run, exporter: Exporter, option: tuple[str, str]) -> None:
    ended = run_edge("build", "q.edge", "--remove", *option)
    assert (ended.code, exporter.given) == (1, {})
    assert f"{option[0]} is of a build, and --remove builds nothing" in ended.err


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("sm", ["sm75", "sm80", "sm86", "sm87", "sm89", "sm110", "sm120", "sm121"]),
        ("sm86,sm8", ["sm86,sm80", "sm86,sm87", "sm86,sm89"]),
        ("sm86,sm12", ["sm86,sm120", "sm86,sm121"]),
        ("sm86,rtx-40", ["sm86,rtx-4060", "sm86,rtx-4070", "sm86,rtx-4090"]),
        ("jetson-a", ["jetson-agx-orin-32gb", "jetson-agx-orin-64gb", "jetson-agx-thor"]),
        ("rk", []),
    ],
)
def test_targets_complete(typed: str, found: list[str]) -> None:
    kind = TargetName()
    items = kind.shell_complete(click.Context(click.Command("x")), click.Option(["--target"]), typed)
    assert [item.value for item in items] == found


@pytest.fixture
def with_engine(tmp_path: Path) -> Path:
    return write_with_engine(tmp_path / "m.edge")


def write_with_engine(
    folder: Path, graph: bytes = b"graph", others: Mapping[str, dict[str, Any]] | None = None
) -> Path:
    variant = replace(VARIANT, engine="tensorrt", dialect="portable-opset24")
    files = {**FILES, variant.model: graph}
    kv = tuple(replace(group, type="float16") for group in MANIFEST_OF_WINDOWED.kv)
    manifest = replace(MANIFEST_OF_WINDOWED, kv=kv, variants=(variant,), files=entries(files))
    header = replace(HEADER, artifact=artifact_fingerprint(Artifact(folder, manifest), variant))
    for name, changes in {NAME: {}, **(others or {})}.items():
        files[name] = replace(header, **changes).dumps() + PLAN
    return write_artifact(folder, replace(manifest, files=entries(files)), files)


def test_inspect_shows_engines(run_edge: Run, with_engine: Path) -> None:
    assert (
        "\nengine           for sm86 sm89 with TensorRT-RTX 1.7 on linux-x86_64, form opset24, 4096 tokens\n"
        in run_edge("inspect", with_engine).out
    )
    (engine,) = run_edge("inspect", with_engine, "--json").json["engines"]
    assert (engine["path"], engine["sms"], engine["capacity"]) == (NAME, ["8.6", "8.9"], 4096)
    assert run_edge("verify", with_engine).code == 0


def test_inspect_tells_of_engines_that_newer_ones_leave_out(run_edge: Run, tmp_path: Path) -> None:
    older, newer = NAME, NAME.replace("sm86-", "")
    path = write_with_engine(
        tmp_path / "m.edge", others={newer: {"sms": ("8.9",), "built": HEADER.built + 1}}
    )
    shown = run_edge("inspect", path).out
    assert "for sm86 sm89 with TensorRT-RTX 1.7 on" in shown
    assert "form opset24, 4096 tokens, left out on sm89 for newer engines\n" in shown
    assert "for sm89 with TensorRT-RTX 1.7 on linux-x86_64, form opset24, 4096 tokens\n" in shown
    found = {engine["path"]: engine for engine in run_edge("inspect", path, "--json").json["engines"]}
    assert [found[name]["left_out"] for name in (older, newer)] == [["8.9"], []]


def test_engines_are_removed(run_edge: Run, with_engine: Path) -> None:
    jit = (with_engine / NAME).with_suffix(".jit")
    jit.write_bytes(b"kernels")
    nbytes = (with_engine / NAME).stat().st_size + 7
    assert "has no such engine to remove" in run_edge("build", with_engine, "--remove", "--context", "64").err
    ended = run_edge("build", with_engine, "--remove")
    assert ended == Ended(0, f"removed {with_engine / NAME} ({nbytes / 1000:.1f} kB)\n", "")
    assert not (with_engine / "tensorrt/engines").exists()
    assert run_edge("verify", with_engine).code == 0
    assert run_edge("inspect", with_engine, "--json").json["engines"] == []
    ended = run_edge("build", with_engine, "--remove", "--json")
    assert (ended.code, ended.json["error"]["type"]) == (1, "InvalidArgument")


def test_a_removal_as_json(run_edge: Run, with_engine: Path) -> None:
    nbytes = (with_engine / NAME).stat().st_size
    assert run_edge("build", with_engine, "--remove", "--target", "sm86,sm89", "--json").json == {
        "artifact": str(with_engine),
        "removed": [{"path": NAME, "file_bytes": nbytes}],
    }


def other_artifacts(engine: Path) -> None:
    other = write_with_engine(engine.parents[3].with_name("other.edge"), b"other graph")
    engine.write_bytes((other / NAME).read_bytes())


def altered(engine: Path) -> None:
    data = bytearray(engine.read_bytes())
    data[70] ^= 1
    engine.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (altered, "damaged: {engine} is altered: its header"),
        (lambda engine: engine.write_bytes(engine.read_bytes()[:-1]), "damaged: {engine} is truncated"),
        (lambda engine: engine.write_bytes(engine.read_bytes() + b"x"), "damaged: {engine} is altered"),
        (lambda engine: engine.unlink(), "damaged: {engine} cannot be read (No such file"),
        (other_artifacts, "not of use: {engine} is built from another artifact than {artifact}"),
    ],
    ids=["altered", "truncated", "longer", "deleted", "another's"],
)
def test_a_bad_engine_does_not_hide_the_rest(
    run_edge: Run, with_engine: Path, damage: Callable[[Path], None], told: str
) -> None:
    engine = with_engine / NAME
    damage(engine)
    again = f"build it again with: edge build {with_engine} --target sm86,sm89 --context 4096"
    shown = next(
        line for line in run_edge("inspect", with_engine).out.splitlines() if line.startswith("engine ")
    )
    assert shown.startswith(f"engine           {told.format(engine=engine, artifact=with_engine)}")
    assert shown.endswith(again)
    assert again in run_edge("inspect", with_engine, "--json").json["engines"][0]["error"]
    ended = run_edge("verify", with_engine)
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: {engine} ")
    assert line.endswith(again)
    assert run_edge("plan", with_engine).code == 0
