"""`edge convert`: from the command line to the artifact, or to nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edge.cli.convert
from edge.artifact import open_artifact
from tests.edge.cli.conftest import Ended

Run = Callable[..., Ended]

REPORT: dict[str, Any] = {
    "path": "out/my model.edge",
    "source": "old.edge",
    "source_engine": "onnxruntime",
    "engine": "cpu",
    "weights": "int4",
    "block": 32,
    "rounded_scales": 4_200_000,
    "widened": 3,
    "largest_scale_change": 0.0039,
    "file_bytes": 84_600_000,
    "bits_per_weight": 4.5084,
    "seconds": 2.44,
    "peak_rss_bytes": 138_500_000,
}
TABLE = """\
source           old.edge
engine           cpu, was onnxruntime
weights          int4, block 32
widened          3 matrices to 8 bits, which hold the same weights
scales rounded   4.2 M, by up to 0.39%
size             84.6 MB
bits per weight  4.51
took             2.4 s
peak memory      138.5 MB
written to       out/my model.edge

Next: edge run 'out/my model.edge' --prompt "What is an inode?"
"""


class Exporter:
    """Stands where the package `export` would be."""

    def __init__(self) -> None:
        self.report = dict(REPORT)
        self.error: Exception | None = None
        self.given: dict[str, Any] = {}

    def convert(self, artifact: Path, out: Path, **options: Any) -> Exporter:
        self.given = {"artifact": artifact, "out": out, **options}
        if self.error is not None:
            raise self.error
        options["progress"]("convert", 1, 2)
        return self

    def to_json(self) -> dict[str, Any]:
        return self.report


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Exporter:
    exporter = Exporter()
    monkeypatch.setattr(edge.cli.convert, "import_module", {"export": exporter}.__getitem__)
    return exporter


def test_there_and_back(run_edge: Run, tiny_artifact: Path, tmp_path: Path) -> None:
    cpu, back = tmp_path / "cpu.edge", tmp_path / "back.edge"
    ended = run_edge("convert", tiny_artifact, "-o", cpu, "--engine", "cpu", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert set(ended.json) == set(REPORT)
    assert [variant.engine for variant in open_artifact(cpu).manifest.variants] == ["cpu"]
    assert run_edge("verify", cpu).code == 0

    assert run_edge("convert", cpu, "-o", back, "--engine", "onnxruntime", "-q") == Ended(0, "", "")
    assert run_edge("run", back, "-p", "hello", "--max-tokens", "3").code == 0

    again = run_edge("convert", cpu, "-o", back, "--engine", "onnxruntime")
    assert (again.code, again.out) == (1, "")
    assert "--force" in again.err
    assert run_edge("convert", cpu, "-o", back, "--engine", "onnxruntime", "--force").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.edge", "cpu.edge"]


def test_what_is_printed(run_edge: Run, exporter: Exporter) -> None:
    args = ("convert", "old.edge", "-o", "x.edge", "--engine", "cpu")
    assert run_edge(*args) == Ended(0, TABLE, "")
    assert run_edge(*args, "--quiet") == Ended(0, "", "")
    assert run_edge(*args, "--json").json == REPORT
    exporter.report["rounded_scales"] = 0
    assert "scales" not in run_edge(*args).out
    assert exporter.given["artifact"] == Path("old.edge")
    assert exporter.given["out"] == Path("x.edge")
    assert (exporter.given["engine"], exporter.given["force"]) == ("cpu", False)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "Missing argument 'ARTIFACT'"),
        (("a.edge", "--engine", "cpu"), "Missing option '--output'"),
        (("a.edge", "-o", "b.edge"), "Missing option '--engine'"),
        (("a.edge", "-o", "b.edge", "--engine", "tpu"), "'tpu' is not one of"),
    ],
)
def test_a_wrong_command_line(run_edge: Run, exporter: Exporter, args: tuple[str, ...], message: str) -> None:
    ended = run_edge("convert", *args)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert exporter.given == {}


def test_the_same_engine_is_refused(run_edge: Run, tiny_artifact: Path, tmp_path: Path) -> None:
    ended = run_edge("convert", tiny_artifact, "-o", tmp_path / "x", "--engine", "onnxruntime", "--json")
    assert ended.code == 1
    assert ended.json["error"]["type"] == "InvalidArgument"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_says_what_to_install(run_edge: Run, exporter: Exporter) -> None:
    exporter.error = ModuleNotFoundError("No module named 'onnx'", name="onnx.helper")
    ended = run_edge("convert", "a.edge", "-o", "b.edge", "--engine", "cpu")
    assert ended.code == 1
    assert "edge convert needs onnx" in ended.err
    assert "pip install 'edgewise[export]'" in ended.err
