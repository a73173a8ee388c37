"""convert(): between the engines and back, to the last bit."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.artifact import open_artifact
from edge.errors import InvalidArgument, OutputExists
from export import convert, export
from tests.export.sealed import sealed
from tests.export.small import small_checkpoint, small_configs


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@st.composite
def models(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.json and recipe of a small llama: odd rows, odd inputs, anything tied or not."""
    recipe = {
        "weights": draw(st.sampled_from(["int4", "int8"])),
        "block": draw(st.sampled_from([32, 64, 128])),
        "zero_points": draw(st.booleans()),
    }
    return draw(small_configs()), recipe


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
            scales[:] *= np.float32(1 + 2**-13)
    (old / "onnxruntime/weights.bin").write_bytes(data)
    sealed(old)
    manifest = json.loads((old / "edge.json").read_text())
    manifest["format"] = 1
    for variant in manifest["variants"]:
        del variant["layout"], variant["layout_version"]
    (old / "edge.json").write_text(json.dumps(manifest))

    report = convert(old, tmp_path / "new.edge", engine="cpu")
    assert report.rounded_scales > 1000
    assert 2**-14 < report.largest_scale_change < 2**-12
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


def test_a_manifest_tells_how_its_engine_keeps_kv(tiny_artifact: Path, tmp_path: Path) -> None:
    convert(tiny_artifact, tmp_path / "cpu.edge", engine="cpu")
    cpu = tmp_path / "cpu.edge"
    before, after = (open_artifact(path).manifest for path in (tiny_artifact, cpu))
    assert before.spec == after.spec
    [stock], [paged] = before.kv, after.kv
    assert (stock.type, stock.page_tokens, stock.scale_group) == ("float32", 1, 0)
    assert (paged.type, paged.page_tokens, paged.scale_group) == ("int8", 64, 32)
    assert (stock.kind, stock.layers, stock.window) == (paged.kind, paged.layers, paged.window)
    assert paged.bytes_per_token < stock.bytes_per_token
