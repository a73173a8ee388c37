"""The manifest of graphs: read as it was written, and refused where it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.artifact import FileEntry, GraphArtifact, GraphEntry, GraphsManifest, GraphTensor, open_any
from edge.artifact.graphs import TENSOR_TYPES
from edge.errors import ArtifactCorrupt, ArtifactTooNew, UnsafePath
from tests.edge.graph_artifact import graph_artifact

names = st.text(min_size=1, max_size=8)
tensors = st.builds(
    GraphTensor,
    name=names,
    type=st.sampled_from(TENSOR_TYPES),
    shape=st.lists(st.integers(0, 1 << 40) | names, max_size=4).map(tuple),
)


@given(st.lists(st.tuples(names, st.lists(tensors), st.lists(tensors)), min_size=1, unique_by=lambda t: t[0]))
def test_what_is_written_is_read(drawn: list[tuple[str, list[GraphTensor], list[GraphTensor]]]) -> None:
    manifest = GraphsManifest(
        name="n",
        architecture="bert",
        task="t",
        recipe={"weights": "fp32"},
        requires="1.23.2",
        parameters=3,
        weight_bytes=12,
        weights="w",
        graphs=tuple(
            GraphEntry(name=name, model="w", inputs=tuple(taken), outputs=tuple(given_))
            for name, taken, given_ in drawn
        ),
        provenance={},
        files=(FileEntry(path="w", size=1, sha256="0"),),
    )
    assert GraphsManifest.loads(manifest.dumps()) == manifest


def test_an_artifact_of_graphs_is_opened_and_verified(tmp_path: Path) -> None:
    opened = open_any(graph_artifact(tmp_path / "a.edge"))
    assert isinstance(opened, GraphArtifact)
    opened.verify()
    path = tmp_path / "a.edge/graphs/weights.bin"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ArtifactCorrupt, match=r"weights\.bin has changed"):
        opened.verify()


def put(*keys: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return edit


def double_graph(data: dict[str, Any]) -> None:
    data["graphs"].append(data["graphs"][0])


@pytest.mark.parametrize(
    ("edit", "error", "words"),
    [
        (put("format", value=4), ArtifactTooNew, "format 4 .* up to format 3"),
        (put("kind", value="songs"), ArtifactTooNew, "format 3"),
        (put("kind", value=5), ArtifactTooNew, "format 3"),
        (put("graphs", value=[]), ArtifactCorrupt, "no graph"),
        (put("graphs", value={}), ArtifactCorrupt, "graphs is .* expected a list"),
        (double_graph, ArtifactCorrupt, "the graph 'sum' twice"),
        (put("weights", value="other.bin"), ArtifactCorrupt, "'other.bin', which is not listed"),
        (put("graphs", 0, "model", value="../x"), ArtifactCorrupt, "'../x', which is not listed"),
        (put("files", 0, "path", value="../x"), ArtifactCorrupt, "not listed"),
        (put("requires", value="new"), ArtifactCorrupt, "requires is 'new'"),
        (put("graphs", 0, "more", value=1), ArtifactCorrupt, "unknown key 'more'"),
        (put("graphs", 0, "inputs", 0, "type", value="string"), ArtifactCorrupt, "type is 'string'"),
        (put("graphs", 0, "inputs", 0, "shape", value=[-1]), ArtifactCorrupt, "shape holds -1"),
        (put("graphs", 0, "inputs", 0, "shape", value=[True]), ArtifactCorrupt, "shape holds True"),
        (put("graphs", 0, "inputs", 0, "shape", value=[[]]), ArtifactCorrupt, r"shape holds \[\]"),
        (put("parameters", value=-1), ArtifactCorrupt, "parameters is -1"),
        (put("spec", value={}), ArtifactCorrupt, "unknown key 'spec'"),
    ],
)
def test_a_wrong_manifest_is_refused(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], error: type[Exception], words: str
) -> None:
    path = graph_artifact(tmp_path / "a.edge") / "edge.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    with pytest.raises(error, match=words):
        open_any(tmp_path / "a.edge")


def test_a_format_that_only_knows_decoders_calls_it_too_new(tmp_path: Path) -> None:
    """Readers before graphs end at format 2."""
    data = json.loads((graph_artifact(tmp_path / "a.edge") / "edge.json").read_text())
    assert data["format"] == 3


def test_a_file_outside_is_not_followed(tmp_path: Path) -> None:
    artifact = graph_artifact(tmp_path / "a.edge")
    (tmp_path / "secret").write_bytes((artifact / "graphs/weights.bin").read_bytes())
    (artifact / "graphs/weights.bin").unlink()
    (artifact / "graphs/weights.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafePath, match="link out of the artifact"):
        open_any(artifact)
