"""convert(): between the engines and back, to the last bit."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.artifact import Manifest, open_artifact
from edge.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactTooNew,
    EdgeError,
    EngineError,
    InvalidArgument,
    OutputExists,
)
from export import convert, export
from export.folder import list_files
from tests.export.small import small_checkpoint


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def sealed(artifact: Path, **changes: Any) -> Path:
    """The manifest written anew for files that were changed, with `changes` of its own."""
    manifest = open_artifact(artifact, check_files=False).manifest
    (artifact / "edge.json").unlink()
    files = list_files(artifact, lambda nbytes: None)
    (artifact / "edge.json").write_text(replace(manifest, files=files, **changes).dumps())
    return artifact


@st.composite
def models(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.json and recipe of a small llama: odd rows, odd inputs, anything tied or not."""
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 2))
    head_dim = draw(st.sampled_from([8, 16, 24]))
    config = {
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_size": heads * head_dim,
        "intermediate_size": draw(st.integers(1, 80)),
        "num_hidden_layers": draw(st.integers(1, 2)),
        "max_position_embeddings": 64,
        "tie_word_embeddings": draw(st.booleans()),
    }
    recipe = {
        "weights": draw(st.sampled_from(["int4", "int8"])),
        "block": draw(st.sampled_from([32, 64, 128])),
        "zero_points": draw(st.booleans()),
    }
    return config, recipe


@given(models())
@settings(max_examples=25, deadline=None)
def test_conversions_give_what_an_export_gives(model: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Each way, and there and back: every byte of every file is that of an export for the engine."""
    config, recipe = model
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_checkpoint(folder / "checkpoint", **config)
        for engine, other in (("cpu", "onnxruntime"), ("onnxruntime", "cpu")):
            (folder / engine).mkdir()
            export(folder / "checkpoint", folder / engine / "m.edge", engine=engine, **recipe)
            (folder / f"to-{other}").mkdir()
            report = convert(folder / engine / "m.edge", folder / f"to-{other}" / "m.edge", engine=other)
            assert (report.rounded_scales, report.largest_scale_change) == (0, 0.0)
            (folder / f"back-{engine}").mkdir()
            convert(folder / f"to-{other}" / "m.edge", folder / f"back-{engine}" / "m.edge", engine=engine)
        for engine in ("cpu", "onnxruntime"):
            expected = files_of(folder / engine / "m.edge")
            assert files_of(folder / f"to-{engine}" / "m.edge") == expected
            assert files_of(folder / f"back-{engine}" / "m.edge") == expected


def test_the_report_and_the_progress(tiny_artifact: Path, tmp_path: Path) -> None:
    calls: dict[str, list[tuple[int, int]]] = {}
    report = convert(
        tiny_artifact,
        tmp_path / "out.edge",
        engine="cpu",
        progress=lambda stage, done, total: calls.setdefault(stage, []).append((done, total)),
    )
    artifact = open_artifact(tmp_path / "out.edge")
    artifact.verify()
    before = open_artifact(tiny_artifact).manifest
    assert artifact.manifest.name == "out"
    assert (artifact.manifest.provenance, artifact.manifest.recipe) == (before.provenance, before.recipe)
    assert [variant.engine for variant in artifact.manifest.variants] == ["cpu"]
    assert (report.engine, report.source_engine, report.weights, report.block) == (
        "cpu",
        "onnxruntime",
        "int4",
        32,
    )
    assert report.path == str(tmp_path / "out.edge")
    assert report.source == str(tiny_artifact)
    assert report.file_bytes == sum(len(data) for data in files_of(tmp_path / "out.edge").values())
    assert report.bits_per_weight == artifact.manifest.bits_per_weight
    assert list(calls) == ["verify", "convert", "checksums"]
    for steps in calls.values():
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[0][0] == 0
    assert names(tmp_path) == ["out.edge"]


def test_scales_of_older_artifacts_are_rounded(tiny_artifact: Path, tmp_path: Path) -> None:
    """Format 1, with float32 scales; zero points and codes stay, and the way back changes nothing more."""
    old = tmp_path / "old.edge"
    shutil.copytree(tiny_artifact, old)
    graph = onnx.load(old / "onnxruntime/model.onnx", load_external_data=False).graph
    data = bytearray((old / "onnxruntime/weights.bin").read_bytes())
    for tensor in graph.initializer:
        if tensor.name.endswith(".scales"):
            place = {entry.key: entry.value for entry in tensor.external_data}
            scales = np.frombuffer(data, "<f4", int(place["length"]) // 4, int(place["offset"]))
            scales[:] *= np.float32(1 + 2**-10)
    (old / "onnxruntime/weights.bin").write_bytes(data)
    sealed(old)
    manifest = json.loads((old / "edge.json").read_text())
    manifest["format"] = 1
    for variant in manifest["variants"]:
        del variant["layout"], variant["layout_version"]
    (old / "edge.json").write_text(json.dumps(manifest))

    report = convert(old, tmp_path / "new.edge", engine="cpu")
    assert report.rounded_scales > 1000
    assert 2**-11 < report.largest_scale_change < 2**-9
    assert open_artifact(tmp_path / "new.edge").manifest.format == 2
    convert(tmp_path / "new.edge", tmp_path / "back.edge", engine="onnxruntime")
    # Rounding undoes the little that was multiplied in.
    back = (tmp_path / "back.edge/onnxruntime/weights.bin").read_bytes()
    assert back == (tiny_artifact / "onnxruntime/weights.bin").read_bytes()


def test_in_place(tiny_artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_artifact, tmp_path / "tiny.edge")
    with pytest.raises(OutputExists, match="--force"):
        convert(tmp_path / "tiny.edge", tmp_path / "tiny.edge", engine="cpu")
    convert(tmp_path / "tiny.edge", tmp_path / "tiny.edge", engine="cpu", force=True)
    open_artifact(tmp_path / "tiny.edge").verify()
    convert(tmp_path / "tiny.edge", tmp_path / "tiny.edge", engine="onnxruntime", force=True)
    assert files_of(tmp_path / "tiny.edge") == files_of(tiny_artifact)


def test_float_weights_have_one_engine(tiny_checkpoint: Path, tmp_path: Path) -> None:
    export(tiny_checkpoint, tmp_path / "fp16.edge", weights="fp16")
    with pytest.raises(InvalidArgument, match="cpu takes int4 and int8 weights, not fp16"):
        convert(tmp_path / "fp16.edge", tmp_path / "out", engine="cpu")


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("onnxruntime", "is for engine onnxruntime already; choose --engine cpu"),
        ("tpu", "engine 'tpu' is unknown; choose one of cpu, onnxruntime"),
    ],
)
def test_engines_that_are_refused(tiny_artifact: Path, tmp_path: Path, engine: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        convert(tiny_artifact, tmp_path / "out", engine=engine)
    assert names(tmp_path) == []


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
    (lambda a: with_variant(a, layout_version=2), ArtifactTooNew, "layout 'panels', version 2.*upgrade"),
    (lambda a: with_variant(a, layout="spirals"), ArtifactTooNew, "layout 'spirals'"),
    (
        lambda a: with_variant(a, engine="tpu"),
        EngineError,
        "no variant for any of cpu, onnxruntime .it has: tpu",
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


def test_a_manifest_keeps_its_kv_groups(cpu: Path, tiny_artifact: Path) -> None:
    before, after = (open_artifact(path).manifest for path in (tiny_artifact, cpu))
    assert isinstance(after, Manifest)
    assert (before.kv, before.spec) == (after.kv, after.spec)
