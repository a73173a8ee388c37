"""The graph of a bucket: which form, which shapes, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.artifact import open_artifact
from edge.errors import ArtifactCorrupt, EngineError, EngineTooOld, InvalidArgument
from export.tensorrt.graph import chosen_variant, form_name, input_shapes, kv_type, profiles, read_graph
from runtimes.tensorrt.header import Shapes


@pytest.mark.parametrize(
    ("flavour", "version", "form", "chosen"),
    [
        ("tensorrt_rtx", "1.7.1.116", None, "opset24"),
        ("tensorrt_rtx", "1.7.1.116", "opset21", "opset21"),
        ("tensorrt", "10.3.0.30", None, "opset21"),
        ("tensorrt", "10.15.9", None, "opset21"),
        ("tensorrt", "10.16.0", None, "opset24"),
        ("tensorrt", "11.0.0", "opset21", "opset21"),
    ],
)
def test_the_newest_form_that_is_read(
    artifact: Path, flavour: str, version: str, form: str | None, chosen: str
) -> None:
    assert form_name(chosen_variant(open_artifact(artifact), flavour, version, form)) == chosen


def test_no_form_is_read(artifact: Path, tiny_artifact: Path) -> None:
    opened = open_artifact(artifact)
    with pytest.raises(EngineTooOld, match=r"TensorRT 8\.6 reads none of opset24, opset21 .* 10\.3\.0"):
        chosen_variant(opened, "tensorrt", "8.6.1", None)
    with pytest.raises(EngineTooOld, match=r"10\.16\.0"):
        chosen_variant(opened, "tensorrt", "10.3.0", "opset24")
    with pytest.raises(InvalidArgument, match="it has: opset24, opset21"):
        chosen_variant(opened, "tensorrt", "10.3.0", "opset19")
    with pytest.raises(EngineError, match="has no variant for engine 'tensorrt'"):
        chosen_variant(open_artifact(tiny_artifact), "tensorrt", "10.3.0", None)


def test_shapes_of_a_profile(artifact: Path) -> None:
    model = read_graph(artifact / "tensorrt/opset21.onnx", 64)
    shapes = input_shapes(model, 64, Shapes(16, 4))
    assert shapes["input_ids"] == ((1, 1), (1, 16))
    assert shapes["attention_mask"] == ((1, 1, 1, 65), (1, 1, 16, 80))
    assert shapes["logit_positions"] == ((1,), (4,))
    assert shapes["past.0.key"][0] == shapes["past.0.key"][1] == (1, 2, 64, 16)
    assert kv_type(model) == "float16"


@pytest.mark.parametrize(
    ("capacity", "chunk", "found"),
    [
        (4096, 256, (Shapes(256, 32), Shapes(1, 1))),
        (64, 256, (Shapes(64, 32), Shapes(1, 1))),
        (4096, 8, (Shapes(8, 8), Shapes(1, 1))),
        (4096, 1, (Shapes(1, 1),)),
    ],
)
def test_profiles(capacity: int, chunk: int, found: tuple[Shapes, ...]) -> None:
    assert profiles(capacity, chunk, 32) == found


def test_a_graph_of_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    with path.open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(ArtifactCorrupt, match=r"2147483648 bytes, and a graph of 2 GB .* external data"):
        read_graph(path)


def test_no_graph(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(b"\xff" * 99)
    with pytest.raises(ArtifactCorrupt, match="is no ONNX graph"):
        read_graph(tmp_path / "g.onnx")
