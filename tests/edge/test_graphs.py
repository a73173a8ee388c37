"""Graphs: what `edge.load` gives for an artifact that is no decoder of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge
from edge.artifact import GraphEntry, GraphTensor
from edge.errors import (
    ArtifactCorrupt,
    ArtifactError,
    EdgeError,
    EngineFailed,
    EngineTooOld,
    InvalidArgument,
    NotADecoder,
)
from edge.graphs import Graphs
from runtimes.onnxruntime.graphs import _checked
from tests.edge.graph_artifact import SCALE, graph_artifact

TOKENIZER = json.dumps(
    {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"},
    }
)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return graph_artifact(tmp_path / "made.edge")


def edit(artifact: Path, **changes: Any) -> None:
    path = artifact / "edge.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_graphs_are_run_by_name(artifact: Path) -> None:
    with edge.load(artifact, threads=1) as graphs:
        assert isinstance(graphs, Graphs)
        assert graphs.names == ("sum", "scale")
        assert [(t.name, t.type, t.shape) for t in graphs.inputs["scale"]] == [("x", "float32", ("n", 4))]
        assert [t.name for t in graphs.outputs["sum"]] == ["total", "rest"]
        x = np.ones((3, 4), np.float32)
        np.testing.assert_array_equal(graphs.run({"x": x}, "scale")["y"], np.tile(SCALE, (3, 1)))
        feeds = {"a": [[5, 7]], "b": np.array([[1, 2]])}
        found = graphs.run(feeds, graph="sum")
        assert {name: value.tolist() for name, value in found.items()} == {
            "total": [[6, 9]],
            "rest": [[4, 5]],
        }
        assert list(graphs.run(feeds, "sum", outputs=["rest"])) == ["rest"]


def test_a_view_that_is_not_contiguous_is_taken(artifact: Path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3).T
    with edge.load(artifact) as graphs:
        np.testing.assert_array_equal(graphs.run({"x": x}, "scale")["y"], x * SCALE)


FLOATS = np.ones((1, 4), np.float32)


@pytest.mark.parametrize(
    ("feeds", "graph", "outputs", "words"),
    [
        ({"x": FLOATS}, None, None, "several graphs; name one: sum, scale"),
        ({"x": FLOATS}, "sums", None, "no graph 'sums'; there are sum, scale"),
        ({}, "scale", None, r"graph scale lacks x \(float32 \[n, 4\]\); it takes x"),
        ({"z": FLOATS}, "scale", None, r"lacks x \(float32 \[n, 4\]\) and has no input z"),
        ({"a": [[1, 2]], "b": [[1, 2]], "c": 1}, "sum", None, "graph sum has no input c; it takes a, b"),
        (FLOATS, "scale", None, r"feeds is of type ndarray; give a dict with x \(float32 \[n, 4\]\)"),
        ({"x": FLOATS.astype(np.float64)}, "scale", None, r"x is float64, .* \.astype\('float32'\)"),
        ({"x": FLOATS[0]}, "scale", None, r"x has shape \[4\], the graph takes float32 \[n, 4\]"),
        ({"x": FLOATS[:, :3]}, "scale", None, r"x has shape \[1, 3\]"),
        ({"x": [["many"] * 4]}, "scale", None, "x is no array of float32"),
        ({"x": [["1"] * 4]}, "scale", None, "x is no array of float32"),
        ({"a": [[1, 2], [3]], "b": [[1, 2]]}, "sum", None, r"a is no array of int64 .*takes int64 \[n, 2\]"),
        ({"a": [[1.5, 2]], "b": [[1, 2]]}, "sum", None, r"a is no array of int64 \(it holds float64\)"),
        ({"a": [[1 << 70, 2]], "b": [[1, 2]]}, "sum", None, "a is no array of int64"),
        ({"x": FLOATS}, "scale", ["z"], "graph scale has no output 'z'; it has y"),
    ],
)
def test_inputs_that_a_graph_does_not_take(
    artifact: Path, feeds: dict[str, Any], graph: str | None, outputs: list[str] | None, words: str
) -> None:
    with edge.load(artifact) as graphs, pytest.raises(InvalidArgument, match=words):
        graphs.run(feeds, graph, outputs)


def test_of_many_that_are_missing_a_few_are_described() -> None:
    taken = [GraphTensor(name=f"p{i}", type="int8", shape=("n", 2)) for i in range(9)]
    graph = GraphEntry(name="g", model="g.onnx", inputs=tuple(taken), outputs=())
    with pytest.raises(
        InvalidArgument, match=r"lacks p1 \(int8 \[n, 2\]\), .* p4 \(.*\) and 4 more; it takes"
    ):
        _checked(graph, {"p0": [[1, 2]]})


def test_a_graph_alone_needs_no_name(artifact: Path) -> None:
    graphs = json.loads((artifact / "edge.json").read_text())["graphs"]
    edit(artifact, graphs=graphs[1:])
    with edge.load(artifact) as loaded:
        assert loaded.run({"x": [[1, 2, 3, 4]]}, outputs="y")["y"].tolist() == [[1, 4, 9, 16]]


def test_sizes_of_one_name_are_one_number(artifact: Path) -> None:
    words = r"b has shape \[1, 2\], the graph takes int64 \[n, 2\], and n is 2 in a"
    # The engine would repeat the one row of b.
    with edge.load(artifact) as graphs, pytest.raises(InvalidArgument, match=words):
        graphs.run({"a": np.ones((2, 2), np.int64), "b": np.ones((1, 2), np.int64)}, "sum")


def test_inputs_that_do_not_go_together_are_the_engines_to_refuse(artifact: Path) -> None:
    graphs = json.loads((artifact / "edge.json").read_text())["graphs"]
    graphs[0]["inputs"][1]["shape"] = ["m", 2]
    edit(artifact, graphs=graphs)
    with edge.load(artifact) as loaded, pytest.raises(EngineFailed, match="run graph sum"):
        loaded.run({"a": np.ones((2, 2), np.int64), "b": np.ones((3, 2), np.int64)}, "sum")


def test_nothing_runs_after_close(artifact: Path) -> None:
    graphs = edge.load(artifact)
    graphs.run({"x": FLOATS}, "scale")
    graphs.close()
    with pytest.raises(EngineFailed, match="load the artifact again"):
        graphs.run({"x": FLOATS}, "scale")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kv": "int8"}, "kv has no meaning"),
        ({"context": 100}, "context has no meaning"),
        ({"sessions": 2}, "sessions has no meaning"),
        ({"memory": 1 << 30}, "memory has no meaning"),
        ({"at_limit": "window"}, "at_limit has no meaning"),
        ({"prefix_cache": 0}, "prefix_cache has no meaning"),
        ({"store": "auto"}, "store has no meaning"),
        ({"disk": 5}, "disk has no meaning"),
        ({"engine": "cpu"}, "choose auto or onnxruntime"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_options_of_decoders_are_refused(artifact: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        edge.load(artifact, **options)
    edge.load(artifact, engine="onnxruntime").close()


def test_the_tokenizer_is_the_one_beside_the_model(tmp_path: Path, artifact: Path) -> None:
    with edge.load(graph_artifact(tmp_path / "with.edge", TOKENIZER)) as graphs:
        assert graphs.tokenizer.encode("b a b").ids == [1, 0, 1]
    with edge.load(artifact) as graphs, pytest.raises(ArtifactError, match=r"has no tokenizer\.json"):
        _ = graphs.tokenizer
    with (
        edge.load(graph_artifact(tmp_path / "bad.edge", "{}")) as graphs,
        pytest.raises(ArtifactError, match=r"tokenizer\.json is no tokenizer"),
    ):
        _ = graphs.tokenizer


def test_a_newer_engine_is_asked_for(artifact: Path) -> None:
    edit(artifact, requires="99.1")
    with pytest.raises(EngineTooOld, match=r"older than 99\.1"):
        edge.load(artifact)


def retyped(artifact: Path) -> None:
    graphs = json.loads((artifact / "edge.json").read_text())["graphs"]
    graphs[1]["inputs"][0]["type"] = "float16"
    edit(artifact, graphs=graphs)


def cut(artifact: Path) -> None:
    (artifact / "graphs/weights.bin").write_bytes(b"1234")


def no_graph(artifact: Path) -> None:
    path = artifact / "graphs/scale.onnx"
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (retyped, ArtifactCorrupt, "its inputs are .* not those of the manifest"),
        (cut, ArtifactCorrupt, "has 4 bytes"),
        (no_graph, EngineFailed, "cannot load"),
    ],
)
def test_a_spoilt_artifact_is_told(
    artifact: Path, spoil: Callable[[Path], None], error: type[EdgeError], words: str
) -> None:
    spoil(artifact)
    with pytest.raises(error, match=words), edge.load(artifact) as graphs:
        graphs.run({"x": np.ones((1, 4), np.float16 if spoil is retyped else np.float32)}, "scale")


def test_a_decoder_is_wanted(artifact: Path) -> None:
    with pytest.raises(NotADecoder, match=r"graphs of bert \(sum, scale\).* edge\.load\(.*edge inspect"):
        edge.open_artifact(artifact)
