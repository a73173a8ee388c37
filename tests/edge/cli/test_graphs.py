"""Commands and artifacts of graphs: `edge export --via optimum` writes them, inspect and verify tell of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edge.cli.export_optimum
from tests.edge.cli.conftest import Ended
from tests.edge.graph_artifact import graph_artifact

Run = Callable[..., Ended]

REPORT: dict[str, Any] = {
    "path": "out/my bert.edge",
    "source": "org/bert",
    "architecture": "bert",
    "task": "feature-extraction",
    "weights": "int8",
    "block": 32,
    "method": "rtn",
    "parameters": 22_600_000,
    "matrices": 38,
    "bits_per_weight": 9.031,
    "graphs": [
        {
            "name": "encoder",
            "products": 36,
            "embeddings": 2,
            "floats": {"Conv": 2},
            "float_errors": {"a": 3e-7, "b": 1e-7},
            "quantized_errors": {"a": 0.01, "b": 0.0234},
        }
    ],
    "file_bytes": 26_500_000,
    "seconds": 17.6,
    "peak_rss_bytes": 270_700_000,
}
TABLE = """\
source           org/bert
architecture     bert
task             feature-extraction
parameters       22.6 M
weights          int8, block 32
method           rtn
matrices         38 quantized, 2 left as floats
size             26.5 MB
bits per weight  9.03
took             17.6 s
peak memory      270.7 MB
written to       out/my bert.edge

Distance from torch, relative to the size of the output:
graph    furthest output  as float  quantized
encoder  b                 1.0e-07    2.3e-02

Next: edge inspect 'out/my bert.edge', and edge.load(...) in Python
"""
INSPECTED = """\
graph         tensor  type     shape
sum    takes  a       int64    n, 2
sum    takes  b       int64    n, 2
sum    gives  total   int64    n, 2
sum    gives  rest    int64    n, 2
scale  takes  x       float32  n, 4
scale  gives  y       float32  n, 4

Distance from torch, relative to the size of the output:
graph  furthest output  as float      quantized
sum    total             1.0e-08  not quantized
scale  y                 2.0e-08        1.2e-02
"""


class Exporter:
    """Stands where `export.optimum.pipeline` would be."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def export_graphs(self, source: str, out: Path, **options: Any) -> Exporter:
        self.given = {"source": source, "out": out, **options}
        return self

    def to_json(self) -> dict[str, Any]:
        return REPORT


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Exporter:
    exporter = Exporter()
    modules = {"export.optimum.pipeline": exporter}
    monkeypatch.setattr(edge.cli.export_optimum, "import_module", modules.__getitem__)
    return exporter


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return graph_artifact(tmp_path / "made.edge")


def test_options_reach_the_exporter(run_edge: Run, exporter: Exporter) -> None:
    options = (
        "--weights",
        "int8",
        "--block",
        "64",
        "--zero-points",
        "--method",
        "hqq",
        "--task",
        "fill-mask",
    )
    ended = run_edge("export", "org/bert", "--via", "optimum", "--force", *options)
    assert ended == Ended(0, TABLE, "")
    del exporter.given["progress"]
    assert exporter.given == {
        "source": "org/bert",
        "out": Path("bert-int8.edge"),
        "weights": "int8",
        "block": 64,
        "zero_points": True,
        "method": "hqq",
        "task": "fill-mask",
        "force": True,
    }
    assert run_edge("export", "org/bert", "--via", "optimum", "--json").json == REPORT
    assert exporter.given["weights"] == "int8"
    assert run_edge("export", "org/bert", "--via", "optimum", "--quiet") == Ended(0, "", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--kv", "int8"), "--kv has no meaning with --via optimum: keys and values are inputs and outputs"),
        (("--board", "this"), "--board has no meaning with --via optimum: plans are for decoders"),
        (("--context", "64"), "--context has no meaning"),
        (("--sessions", "2"), "--sessions has no meaning"),
        (
            ("--size", "90MB"),
            "--size has no meaning with --via optimum: all matrices have the type of --weights",
        ),
        (("--bits", "4.5"), "--bits has no meaning"),
        (("--calibration", "t.txt"), "--calibration has no meaning"),
        (("--keep",), "--keep has no meaning"),
        (("--no-keep",), "--keep has no meaning"),
        (("--restart",), "--restart has no meaning"),
        (("--effort", "best"), "--effort has no meaning"),
        (("--no-fidelity",), "--fidelity has no meaning with --via optimum: graphs are always compared"),
        (("--engine", "cpu"), "--engine cpu does not run the graphs that optimum makes"),
        (("--engine", "tensorrt"), "--engine tensorrt does not run"),
    ],
)
def test_options_without_meaning(
    run_edge: Run, exporter: Exporter, options: tuple[str, ...], message: str
) -> None:
    ended = run_edge("export", "org/bert", "--via", "optimum", *options)
    assert ended.code == 1
    assert message in ended.err
    assert exporter.given == {}


@pytest.mark.parametrize(
    ("weights", "error", "noted"), [("int4", 0.27, True), ("int4", 0.09, False), ("int8", 0.27, False)]
)
def test_int4_that_is_far_is_noted(
    run_edge: Run,
    exporter: Exporter,
    monkeypatch: pytest.MonkeyPatch,
    weights: str,
    error: float,
    noted: bool,
) -> None:
    graph = {**REPORT["graphs"][0], "quantized_errors": {"a": 0.01, "b": error}}
    monkeypatch.setattr(exporter, "to_json", lambda: {**REPORT, "weights": weights, "graphs": [graph]})
    ended = run_edge("export", "org/bert", "--via", "optimum")
    assert ("Note: int4 is far from torch here; --weights int8 is closer" in ended.out) == noted


def test_a_task_wants_optimum(run_edge: Run) -> None:
    ended = run_edge("export", "org/bert", "--task", "fill-mask")
    assert (ended.code, ended.err) == (
        1,
        "error: --task is what --via optimum exports a model for; add --via optimum\n",
    )


def test_inspect(run_edge: Run, artifact: Path) -> None:
    ended = run_edge("inspect", artifact)
    assert ended.code == 0
    assert INSPECTED in ended.out
    assert "runs on            onnxruntime 1.23.2 or newer\n" in ended.out
    report = run_edge("inspect", artifact, "--json").json
    assert (report["kind"], report["architecture"]) == ("graphs", "bert")
    assert report["graphs"][1]["inputs"] == [{"name": "x", "type": "float32", "shape": ["n", 4]}]
    assert report["file_bytes"] == sum(p.stat().st_size for p in artifact.rglob("*") if p.is_file())
    layers = run_edge("inspect", artifact, "--layers")
    assert (layers.code, "keep no KV; leave --layers out" in layers.err) == (1, True)


@pytest.mark.parametrize("errors", [None, 5, {"sum": 5}, {"sum": {"float": {"y": "x"}, "quantized": None}}])
def test_inspect_of_strange_provenance(run_edge: Run, artifact: Path, errors: Any) -> None:
    import json

    path = artifact / "edge.json"
    data = json.loads(path.read_text())
    data["provenance"]["errors"] = errors
    path.write_text(json.dumps(data))
    ended = run_edge("inspect", artifact)
    assert ended.code == 0
    assert "Distance" not in ended.out


def test_verify(run_edge: Run, artifact: Path) -> None:
    assert "3 files" in run_edge("verify", artifact).out
    (artifact / "graphs/weights.bin").write_bytes(bytes(16))
    ended = run_edge("verify", artifact)
    assert (ended.code, "weights.bin has changed" in ended.err) == (1, True)


@pytest.mark.parametrize(
    "command",
    [
        ("run", "{}", "--prompt", "hello"),
        ("chat", "{}"),
        ("bench", "{}"),
        ("plan", "{}"),
        ("evaluate", "{}", "--reference", "x.gguf"),
        ("convert", "{}", "-o", "other.edge", "--engine", "cpu"),
    ],
)
def test_commands_for_decoders_say_what_to_do(
    run_edge: Run, artifact: Path, command: tuple[str, ...]
) -> None:
    ended = run_edge(*(word.replace("{}", str(artifact)) for word in command))
    assert ended.code == 1
    assert (
        f"{artifact} holds graphs of bert (sum, scale), no decoder that edge generates text with" in ended.err
    )
    assert f"edge inspect {artifact}" in ended.err
    assert "Traceback" not in ended.err
