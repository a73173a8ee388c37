from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edge
from edge.artifact import open_artifact
from edge.errors import CheckpointCorrupt, InvalidArgument, TensorError
from export import export, pipeline
from export.graph import checkpoint_weights
from export.quantize import Precision, RoundToNearest
from tests.export.small import Tensors, small_checkpoint

Q = "model.layers.1.self_attn.q_proj.weight"
NORM = "model.layers.0.input_layernorm.weight"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_report_and_the_manifest_agree_with_the_disk(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model-v1.5.edge"
    report = export(str(tiny_checkpoint), f"{out}/")
    artifact = open_artifact(out)
    artifact.verify()
    assert names(tmp_path) == ["model-v1.5.edge"]
    assert artifact.manifest.name == "model-v1.5"
    assert report.path == str(out)
    assert report.file_bytes == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert report.bits_per_weight == artifact.manifest.bits_per_weight
    assert report.to_json()["weights"] == "int4"


@pytest.mark.parametrize(
    ("weights", "engine", "chosen"),
    [
        ("int4", None, "cpu"),
        ("int8", None, "cpu"),
        ("fp16", None, "onnxruntime"),
        ("fp32", None, "onnxruntime"),
        ("int4", "onnxruntime", "onnxruntime"),
        ("int8", "cpu", "cpu"),
    ],
)
def test_the_engine_it_is_for(
    tiny_checkpoint: Path, tmp_path: Path, weights: str, engine: str | None, chosen: str
) -> None:
    report = export(tiny_checkpoint, tmp_path / "out", weights=weights, engine=engine)
    (variant,) = open_artifact(tmp_path / "out").manifest.variants
    assert report.engine == variant.engine == chosen
    assert names(tmp_path / "out" / chosen) == ["model.onnx", "weights.bin"] + ["weights.json"] * (
        chosen == "cpu"
    )


@pytest.mark.parametrize(
    ("weights", "engine", "message"),
    [
        (
            "fp16",
            "cpu",
            "cpu takes int4 and int8 weights, not fp16; choose such weights, or engine onnxruntime",
        ),
        ("int4", "tpu", "engine 'tpu' is unknown; choose one of cpu, onnxruntime, tensorrt"),
        ("fp32", "tensorrt", "engine tensorrt computes in float16, and weights are fp32"),
    ],
)
def test_an_engine_that_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, weights: str, engine: str, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        export(tiny_checkpoint, tmp_path / "out", weights=weights, engine=engine)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("out", "name"), [("a.b", "a.b"), ("a.edge", "a"), ("new/v1.5.edge/", "v1.5")])
def test_the_name_is_that_of_the_folder(tiny_checkpoint: Path, tmp_path: Path, out: str, name: str) -> None:
    export(tiny_checkpoint, f"{tmp_path}/{out}")
    assert open_artifact(tmp_path / out).manifest.name == name


def stored_bytes(graph: Path) -> int:
    """Bytes that the initializers of a graph take in the weights file, RoPE's tables left out."""
    model = onnx.load(str(graph), load_external_data=False)
    places = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.external_data and not tensor.name.startswith("rope.")
    ]
    return sum({place["offset"]: int(place["length"]) for place in places}.values())


@pytest.mark.parametrize("weights", ["int4", "int8", "fp16", "fp32"])
@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("engine", ["cpu", "onnxruntime"])
def test_every_weight_is_counted_once(
    tmp_path: Path, weights: str, zero_points: bool, tied: bool, engine: str
) -> None:
    if engine == "cpu" and not weights.startswith("int"):
        pytest.skip("refused")
    if zero_points and not weights.startswith("int"):
        with pytest.raises(InvalidArgument):
            export(tmp_path, tmp_path / "out", weights=weights, zero_points=True)
        assert names(tmp_path) == []
        return
    # 96 inputs are 3 blocks of 32: an odd number of 4-bit zero points a row.
    source = small_checkpoint(tmp_path / "source", tie_word_embeddings=tied)
    export(source, tmp_path / "out", weights=weights, zero_points=zero_points, engine=engine)
    manifest = open_artifact(tmp_path / "out").manifest
    assert sum(part.parameters for part in manifest.parts) == manifest.spec.parameters
    assert {part.name for part in manifest.parts} == {"embedding", "attention", "mlp", "norms"} | (
        set() if tied else {"head"}
    )
    assert manifest.weight_bytes == stored_bytes(tmp_path / "out" / engine / "model.onnx")


@pytest.mark.parametrize("block", [32, 64, 128])
@pytest.mark.parametrize(("weights", "bits"), [("int4", 4), ("int8", 8)])
@pytest.mark.parametrize("zero_points", [False, True])
def test_inputs_that_are_no_whole_blocks(
    tmp_path: Path, block: int, weights: str, bits: int, zero_points: bool
) -> None:
    """Hidden size 72: the artifact computes what the same weights, rounded here, give in fp32."""
    sizes = {"hidden_size": 72, "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 200}

    def rounded(tensors: Tensors) -> None:
        for name, tensor in tensors.items():
            if tensor.ndim == 2:
                padded = np.pad(tensor, ((0, 0), (0, -tensor.shape[1] % block)))
                quantized = RoundToNearest().quantize(padded, Precision(bits, block, zero_points))
                tensors[name] = np.ascontiguousarray(quantized.dequantize(bits)[:, : tensor.shape[1]])

    source = small_checkpoint(tmp_path / "source", **sizes)
    reference = small_checkpoint(tmp_path / "reference", rounded, **sizes)
    export(
        source,
        tmp_path / "a.edge",
        weights=weights,
        block=block,
        zero_points=zero_points,
        engine="onnxruntime",
    )
    export(reference, tmp_path / "b.edge", weights="fp32")
    logits = []
    for name in ("a.edge", "b.edge"):
        with edge.load(tmp_path / name) as model:
            logits.append(model.logits([5, 100, 7, 200]))
    # Activations are rounded to 8 bits beside quantized weights.
    assert np.abs(logits[0] - logits[1]).max() < 0.05 * np.abs(logits[1]).max()


def test_a_tensor_that_is_all_zeros(tmp_path: Path) -> None:
    def silenced(tensors: Tensors) -> None:
        tensors[Q][:] = 0

    source = small_checkpoint(tmp_path / "source", silenced)
    for weights in ("int4", "int8", "fp16"):
        export(source, tmp_path / weights, weights=weights, engine="onnxruntime")
        with edge.load(tmp_path / weights) as model:
            assert np.isfinite(model.logits([1, 2, 3])).all()


@pytest.mark.parametrize("weights", ["int4", "int8", "fp16", "fp32"])
@pytest.mark.parametrize(
    ("name", "index", "value", "shown"),
    [
        (Q, (63, 5), np.nan, "nan"),
        (Q, (0, 0), np.inf, "inf"),
        ("model.embed_tokens.weight", (200, 63), -np.inf, "-inf"),
        (NORM, (7,), np.nan, "nan"),
    ],
)
def test_a_weight_that_is_no_number(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: str,
    name: str,
    index: tuple[int, ...],
    value: float,
    shown: str,
) -> None:
    monkeypatch.setattr(checkpoint_weights, "_ELEMENTS", 640)  # ten rows at a time

    def spoil(tensors: Tensors) -> None:
        tensors[name][index] = value

    source = small_checkpoint(tmp_path / "source", spoil)
    with pytest.raises(TensorError) as caught:
        export(source, tmp_path / "out", weights=weights)
    assert f"{name} holds {shown} at {list(index)}" in str(caught.value)
    assert names(tmp_path) == ["source"]


@pytest.mark.parametrize(
    ("weights", "value", "message"),
    [
        ("fp16", 65504.0, None),
        ("fp16", 7e4, "holds 70000 at .*more than the 65504 of fp16; export with --weights fp32"),
        ("fp16", -1e38, "more than the 65504 of fp16"),
        ("fp32", 1e38, None),
        ("int8", -65504.0, None),
        ("int8", -1e38, "holds -1e\\+38 at .*more than the 65504 of int8"),
        ("int4", 1e14, "more than the 65504 of int4; export with --weights fp32"),
    ],
)
def test_a_weight_that_is_too_large(tmp_path: Path, weights: str, value: float, message: str | None) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors[Q][3, 4] = value

    source = small_checkpoint(tmp_path / "source", spoil)
    if message is None:
        export(source, tmp_path / "out", weights=weights)
        return
    with pytest.raises(TensorError, match=message):
        export(source, tmp_path / "out", weights=weights)
    assert names(tmp_path) == ["source"]


def test_nothing_tells_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small_checkpoint(tmp_path / "secret-place" / "tiny-llama")
    monkeypatch.chdir(source)
    for number, spelled in enumerate((source, f"{source}/", ".", "../tiny-llama")):
        out = tmp_path / f"{number}.edge"
        export(spelled, out)
        assert open_artifact(out).manifest.provenance["source"] == "tiny-llama"
        for file in out.rglob("*"):
            assert file.is_dir() or b"secret-place" not in file.read_bytes()


def test_a_hub_id_stays_whole(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pipeline.open_checkpoint

    def from_hub(source: str, progress: Any) -> Any:
        return replace(real(tiny_checkpoint), source=source)

    monkeypatch.setattr(pipeline, "open_checkpoint", from_hub)
    export("org/model@v2", tmp_path / "out")
    assert open_artifact(tmp_path / "out").manifest.provenance["source"] == "org/model@v2"


def test_progress_is_told_in_order_and_to_the_end(tiny_checkpoint: Path, tmp_path: Path) -> None:
    calls: dict[str, list[tuple[int, int]]] = {}
    threads = set()

    def told(stage: str, done: int, total: int) -> None:
        calls.setdefault(stage, []).append((done, total))
        threads.add(threading.current_thread())

    export(tiny_checkpoint, tmp_path / "out", progress=told)
    assert list(calls) == ["int4", "checksums"]
    for steps in calls.values():
        done = [step for step, _ in steps]
        assert done == sorted(done)
        assert (done[0], done[-1]) == (0, steps[0][1])
        assert len({total for _, total in steps}) == 1
    assert threads == {threading.current_thread()}


def test_a_chat_template_that_is_no_unicode(tmp_path: Path) -> None:
    source = small_checkpoint(tmp_path / "source")
    (source / "chat_template.jinja").unlink()
    (source / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>", "chat_template": "\\ud83d"}')
    with pytest.raises(CheckpointCorrupt, match="not Unicode"):
        export(source, tmp_path / "out")
    assert names(tmp_path) == ["source"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_generation_defaults_that_json_has_no_number_for(tmp_path: Path, value: str) -> None:
    """Refused, or left out: never an artifact that does not open."""
    source = small_checkpoint(tmp_path / "source")
    (source / "generation_config.json").write_text(f'{{"eos_token_id": 2, "temperature": {value}}}')
    try:
        export(source, tmp_path / "out")
    except CheckpointCorrupt:
        return
    assert open_artifact(tmp_path / "out").generation["eos_token_id"] == [2]
