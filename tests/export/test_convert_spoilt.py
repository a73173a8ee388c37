"""convert() of artifacts whose files are not what their manifest or their spec says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge.artifact import open_artifact
from edge.errors import ArtifactCorrupt, ArtifactError, ArtifactTooNew, ArtifactTooOld, EdgeError, EngineError
from export import convert
from tests.export.sealed import sealed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def cpu(tiny_artifact: Path, tmp_path: Path) -> Path:
    """An artifact for the cpu engine, to be spoilt."""
    convert(tiny_artifact, tmp_path / "cpu.edge", engine="cpu")
    return tmp_path / "cpu.edge"


def test_a_file_that_has_changed(cpu: Path, tmp_path: Path) -> None:
    data = bytearray((cpu / "cpu/weights.bin").read_bytes())
    data[7] ^= 1
    (cpu / "cpu/weights.bin").write_bytes(data)
    with pytest.raises(ArtifactCorrupt, match=r"weights.bin has changed"):
        convert(cpu, tmp_path / "out", engine="onnxruntime")
    assert names(tmp_path) == ["cpu.edge"]


def with_variant(artifact: Path, **changes: Any) -> Path:
    (variant,) = open_artifact(artifact).manifest.variants
    return sealed(artifact, variants=(replace(variant, **changes),))


def spoil_graph(artifact: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    path = artifact / "cpu/model.onnx"
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    return sealed(artifact)


def tensor(model: onnx.ModelProto, end: str = "o_proj.panels") -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name.endswith(end))


def place(model: onnx.ModelProto, key: str, value: str, end: str = "o_proj.panels") -> None:
    next(entry for entry in tensor(model, end).external_data if entry.key == key).value = value


def write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


SPOILT: list[tuple[Callable[[Path], Any], type[EdgeError], str]] = [
    (lambda a: with_variant(a, layout_version=4), ArtifactTooNew, "layout 'panels', version 4.*upgrade"),
    (lambda a: with_variant(a, layout_version=2), ArtifactTooOld, "panels, version 2.*export it again"),
    (lambda a: with_variant(a, layout="spirals"), ArtifactTooNew, "layout 'spirals'"),
    (
        lambda a: with_variant(a, engine="tpu"),
        EngineError,
        "no variant for any of cpu, onnxruntime, tensorrt, cuda .it has: tpu",
    ),
    (lambda a: sealed(a, recipe={"weights": "int5"}), ArtifactCorrupt, "the recipe is none .*int5"),
    (lambda a: sealed(a, recipe={"colour": 1}), ArtifactCorrupt, "the recipe is none"),
    (lambda a: sealed(a, recipe={"weights": "int8"}), ArtifactCorrupt, "expected .* bytes inside"),
    (
        lambda a: (write_bytes(a / "cpu/model.onnx", b"\xff" * 99), sealed(a)),
        ArtifactCorrupt,
        "model.onnx cannot be read",
    ),
    (
        lambda a: spoil_graph(a, lambda m: m.graph.initializer.remove(tensor(m))),
        ArtifactCorrupt,
        r"holds no model.layers.0.self_attn.o_proj.weight",
    ),
    (
        lambda a: spoil_graph(a, lambda m: m.graph.initializer.remove(tensor(m, "model.norm.weight"))),
        ArtifactCorrupt,
        r"holds no model.norm.weight",
    ),
    (lambda a: spoil_graph(a, lambda m: place(m, "offset", "-4096")), ArtifactCorrupt, "bytes from -4096 on"),
    (
        lambda a: spoil_graph(a, lambda m: place(m, "offset", str(1 << 62))),
        ArtifactCorrupt,
        "inside that file",
    ),
    (lambda a: spoil_graph(a, lambda m: place(m, "length", "64")), ArtifactCorrupt, "said to be 64 bytes"),
    (lambda a: spoil_graph(a, lambda m: place(m, "length", "x")), ArtifactCorrupt, "is in no file"),
    (
        lambda a: spoil_graph(a, lambda m: place(m, "location", "../../../etc/passwd")),
        ArtifactCorrupt,
        "edge.json lists no cpu/../../../etc/passwd",
    ),
    (
        lambda a: spoil_graph(a, lambda m: place(m, "length", "4", "model.norm.weight")),
        ArtifactCorrupt,
        "model.norm.weight is said to be 4 bytes",
    ),
    (
        lambda a: spoil_graph(a, lambda m: tensor(m).ClearField("external_data")),
        ArtifactCorrupt,
        "is in no file",
    ),
]


@pytest.mark.parametrize(("spoil", "error", "message"), SPOILT, ids=range(len(SPOILT)))
def test_an_artifact_that_is_spoilt(
    cpu: Path, tmp_path: Path, spoil: Callable[[Path], Any], error: type[EdgeError], message: str
) -> None:
    spoil(cpu)
    with pytest.raises(error, match=message):
        convert(cpu, tmp_path / "out", engine="onnxruntime")
    assert names(tmp_path) == ["cpu.edge"]


def test_a_scale_that_is_no_number(tiny_artifact: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.edge"
    shutil.copytree(tiny_artifact, bad)
    graph = onnx.load(bad / "onnxruntime/model.onnx", load_external_data=False).graph
    offset = next(
        int(entry.value)
        for t in graph.initializer
        for entry in t.external_data
        if t.name.endswith("o_proj.scales") and entry.key == "offset"
    )
    data = bytearray((bad / "onnxruntime/weights.bin").read_bytes())
    data[offset : offset + 4] = np.float32(np.nan).tobytes()
    (bad / "onnxruntime/weights.bin").write_bytes(data)
    with pytest.raises(
        ArtifactError, match=r"a scale of model.layers.0.self_attn.o_proj is no finite number"
    ):
        convert(sealed(bad), tmp_path / "out", engine="cpu")
