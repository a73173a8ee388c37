"""Codes that a source has: taken over to the last bit, where the user or the recipe wants them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from edge.artifact import open_artifact
from edge.errors import InvalidArgument
from export import convert, export
from export.checkpoint import open_checkpoint
from export.checkpoint.packed.packed_tensor import PackedTensor
from export.fit import EFFORTS
from export.fit.grids import source_grids
from export.quantize import Precision
from export.stored_weights import StoredWeights, stored_recipe
from tests.checkpoints import state_arrays, tiny_model, write_gguf
from tests.export.checkpoint.packers import METHODS, packed_folder

SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 256,
    "tie_word_embeddings": False,
}
KINDS = [Kind.Q4_0, Kind.Q5_0, Kind.Q8_0]
ENGINES = ["cpu", "onnxruntime"]
UP = "model.layers.1.mlp.up_proj"


@pytest.fixture(autouse=True)
def few_windows(monkeypatch: pytest.MonkeyPatch, kernels: None) -> None:
    for name, effort in list(EFFORTS.items()):
        monkeypatch.setitem(EFFORTS, name, type(effort)(name, 4, 1, effort.candidates))


def source(folder: Path, types: Kind | dict[str, Kind], seed: int = 0) -> Path:
    model = tiny_model("llama", seed, **SIZES)
    path = folder / "source.gguf"
    write_gguf(path, state_arrays(model), model.config.to_dict(), types=types)
    return path


def weights_of(path: Path, tensor: str) -> np.ndarray:
    """What an artifact has of a matrix."""
    artifact = open_artifact(path)
    recipe = stored_recipe(artifact)
    stored = StoredWeights(artifact, artifact.manifest.variants[0], recipe, lambda nbytes: None)
    bits = recipe.of(tensor).bits
    rows = np.concatenate([part.dequantize(bits) for part in stored.quantized(f"{tensor}.weight")])
    return rows[:, : stored.shape(f"{tensor}.weight")[1]]


def assert_same(artifact: Path, checkpoint: Path, *but: str) -> None:
    """All matrices are those of the checkpoint, to the last bit. Queries and keys may have changed places: powers of
    two that cancel out."""
    tensors = open_checkpoint(checkpoint).tensors
    for name, tensor in tensors.items():
        if len(tensor.shape) == 2 and name.removesuffix(".weight") not in but:
            found, expected = weights_of(artifact, name.removesuffix(".weight")), tensor.read()
            if ".q_proj" in name or ".k_proj" in name:
                factors = np.abs(found).max(1) / np.abs(expected).max(1)
                assert np.array_equal(np.log2(factors), np.rint(np.log2(factors)))
                found = found / factors[:, None]
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_all_is_kept(kind: Kind, engine: str, tmp_path: Path) -> None:
    path = source(tmp_path, kind)
    report = export(path, tmp_path / "kept", keep=True, engine=engine)
    assert_same(tmp_path / "kept", path)
    assert report.kept == 2 * 7 + 2
    manifest = open_artifact(tmp_path / "kept").manifest
    assert manifest.provenance["kept"] == report.kept
    bits = {Kind.Q4_0: 4, Kind.Q5_0: 5 if engine == "cpu" else 8, Kind.Q8_0: 8}[kind]
    assert stored_recipe(open_artifact(tmp_path / "kept")).of(UP) == Precision(bits, 32)


@pytest.mark.parametrize("engine", ["onnxruntime", "tensorrt"])
def test_a_conversion_widens_what_it_has_to(engine: str, tmp_path: Path) -> None:
    """5 bits become 8 where the operators take 4 and 8, and the weights stay."""
    path = source(tmp_path, {"blk.1.ffn_down.weight": Kind.Q5_0, "blk.0.attn_output.weight": Kind.Q4_0})
    export(path, tmp_path / "five", method="rtn", keep=True)
    report = convert(tmp_path / "five", tmp_path / "wide", engine=engine)
    assert (report.widened, report.weights) == (1, "mixed")
    recipe = stored_recipe(open_artifact(tmp_path / "wide"))
    down = "model.layers.1.mlp.down_proj"
    assert (recipe.of(down).bits, recipe.of("model.layers.0.self_attn.o_proj").bits) == (8, 4)
    exact = open_checkpoint(path).tensors[f"{down}.weight"].read()
    np.testing.assert_array_equal(weights_of(tmp_path / "wide", down), exact)


def test_auto_sees_what_fits_the_recipe(tmp_path: Path) -> None:
    types = {f"blk.1.{part}.weight": Kind.Q4_0 for part in ("ffn_up", "ffn_gate", "ffn_down")}
    path = source(tmp_path, {**types, "blk.0.ffn_up.weight": Kind.Q8_0})
    report = export(path, tmp_path / "auto", method="auto")
    assert report.kept == 3
    told = open_artifact(tmp_path / "auto").manifest.provenance["fitting"]
    assert told["methods"]["kept"] == 3
    tensors = open_checkpoint(path).tensors
    for name in (UP, "model.layers.1.mlp.gate_proj", "model.layers.1.mlp.down_proj"):
        np.testing.assert_array_equal(weights_of(tmp_path / "auto", name), tensors[f"{name}.weight"].read())
    assert export(path, tmp_path / "anew", method="auto", keep=False).kept == 0
    assert export(path, tmp_path / "named", method="gptq").kept == 0


@pytest.mark.parametrize("method", ["rtn", "auto"])
def test_the_rest_is_quantized(method: str, tmp_path: Path) -> None:
    """Matrices that are stored together are kept in the most bits of any, and none where one has no codes."""
    types = {
        "blk.0.attn_q.weight": Kind.Q4_0,
        "blk.0.attn_k.weight": Kind.Q5_0,
        "blk.0.attn_v.weight": Kind.Q8_0,
        "blk.1.ffn_up.weight": Kind.Q8_0,
    }
    path = source(tmp_path, types)
    report = export(path, tmp_path / "out", method=method, keep=True)
    recipe = stored_recipe(open_artifact(tmp_path / "out"))
    assert report.kept == 3
    assert {recipe.of(f"model.layers.0.self_attn.{name}_proj").bits for name in "qkv"} == {8}
    assert recipe.of(UP) == recipe.precision == Precision(4, 32)
    value = "model.layers.0.self_attn.v_proj"
    np.testing.assert_array_equal(
        weights_of(tmp_path / "out", value), open_checkpoint(path).tensors[f"{value}.weight"].read()
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("engine", ENGINES)
def test_what_others_quantized_is_taken_over(method: str, engine: str, tmp_path: Path) -> None:
    """Whatever the method for the rest, and unless the user wants it anew."""
    path = tmp_path / "source"
    packed_folder(path, METHODS[method])
    report = export(path, tmp_path / "out", engine=engine, method="rtn")
    assert report.kept == sum(isinstance(t, PackedTensor) for t in open_checkpoint(path).tensors.values()) > 0
    assert_same(tmp_path / "out", path, "model.embed_tokens", "lm_head")
    assert export(path, tmp_path / "anew", engine=engine, method="rtn", keep=False).kept == 0


def test_a_target_keeps_what_costs_nothing(tmp_path: Path) -> None:
    """Room for 4 bits in blocks of 32 everywhere: no error at all, where a smaller block would be no better."""
    path = source(tmp_path, Kind.Q4_0)
    checkpoint = open_checkpoint(path)
    report = export(path, tmp_path / "out", bits=4.55, effort="fast")
    assert_same(tmp_path / "out", path)
    assert report.kept == 2 * 7 + 2
    grids = source_grids(checkpoint.spec, checkpoint.tensors, "cpu")
    assert set(grids.values()) == {Precision(4, 32)}
    # Less room costs something, and what is still held exactly goes on being kept.
    less = export(path, tmp_path / "less", bits=4.4, effort="fast")
    assert 0 < less.kept < report.kept


def test_an_interrupted_export_with_another_wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = source(tmp_path, {"blk.1.ffn_down.weight": Kind.Q4_0})

    def stop(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("export.pipeline.write_artifact", stop)
    with pytest.raises(KeyboardInterrupt):
        export(path, tmp_path / "out", method="auto")
    monkeypatch.undo()
    with pytest.raises(InvalidArgument, match=r"keep was True, is False.*--restart"):
        export(path, tmp_path / "out", method="auto", keep=False)
    assert json.loads((tmp_path / ".out.work/options.json").read_text())["keep"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weights": "fp16"},
            "what is kept are codes, and fp16 weights are none; drop --keep or --weights fp16",
        ),
        ({"size": "1MB"}, "drop --keep or --size"),
        ({"bits": 5.0}, "drop --keep or --bits"),
        ({}, r"source\.gguf has no matrix that engine cpu could hold.*are F16, F32, Q5_1.*leave out --keep"),
    ],
)
def test_nothing_to_keep(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = source(tmp_path, {"blk.1.ffn_down.weight": Kind.Q5_1, "blk.0.ffn_down.weight": Kind.F16})
    with pytest.raises(InvalidArgument, match=message):
        export(path, tmp_path / "out", keep=True, **options)


def test_a_scale_that_is_no_number(tmp_path: Path) -> None:
    path = source(tmp_path, Kind.Q8_0)
    tensor: Any = open_checkpoint(path).tensors[f"{UP}.weight"]
    data = bytearray(path.read_bytes())
    data[tensor._start + 34 * 7 : tensor._start + 34 * 7 + 2] = b"\x00\x7e"
    path.write_bytes(data)
    with pytest.raises(Exception, match=rf"{UP}\.weight holds nan at \[1, 96\]"):
        export(path, tmp_path / "out", keep=True)
