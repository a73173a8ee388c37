"""The portable dialect beside the onnxruntime one with the same codes, and beside transformers on what they stand for.

float16 has 11 bits: what is rounded to it is off by up to 2^-11 of its size, some dozen times on the way to a logit.
On these models that adds up to 0.0021 of the largest logit at most, and in the mean to less than what transformers
itself, in float16 from end to end, is off by.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edge.artifact import open_artifact
from export import convert, export
from export.quantize import Precision, RoundToNearest
from runtimes.onnxruntime.cache import OnnxRuntimeCache
from runtimes.protocol import Step
from tests import models
from tests.checkpoints import tiny_folder
from tests.e2e.oracle import PROMPT, TOKENS, reference_logits, reference_model
from tests.e2e.test_oracle import CASES as CHECKPOINTS
from tests.e2e.test_oracle import MIXED, SLIDING, write_checkpoint
from tests.e2e.test_quantized import RANGE, TIED, WIDE, float_activations
from tests.logits import Logits, engine_logits, opened, relative_error
from tests.portable import portable_logits, portable_run

# Of the largest logit: the worst, and the mean.
WORST, TYPICAL = 3e-3, 3e-4
FORMS = ["opset24", "opset21"]


@dataclass(frozen=True)
class Case:
    """A checkpoint and a recipe."""

    family: str
    weights: str
    block: int = 32
    options: dict[str, Any] = field(default_factory=dict)


# Rows of 76 and 90 weights: the last block is not full.
PADDED = {"hidden_size": 76, "intermediate_size": 90, "head_dim": 16}
CASES: dict[str, Case] = {
    "llama, int4": Case("llama", "int4"),
    "llama, int4, tied": Case("llama", "int4", 64, {**TIED, **WIDE}),
    "llama, int4, padded, all biases": Case(
        "llama", "int4", 128, {**PADDED, **TIED, "attention_bias": True, "mlp_bias": True}
    ),
    "llama, int8": Case("llama", "int8", 32, {"num_key_value_heads": 4}),
    "mistral, int4, window": Case("mistral", "int4", 32, {"sliding_window": 12}),
    "mistral, int8, padded": Case("mistral", "int8", 64, {**PADDED, "sliding_window": None}),
    "qwen2, int4": Case("qwen2", "int4", 128, {**WIDE, **TIED}),
    "qwen2, int4, window by layer": Case(
        "qwen2", "int4", 32, {**SLIDING, "layer_types": MIXED, "num_hidden_layers": 3}
    ),
    "qwen3, int4": Case("qwen3", "int4", 32, {"attention_bias": True}),
    "qwen3, int8": Case("qwen3", "int8", 128, {**WIDE, **TIED, "num_key_value_heads": 1}),
}


@dataclass(frozen=True)
class Exported:
    """An artifact, and what it should say."""

    artifact: Path
    transformers: Logits
    stock: Logits
    """Of the onnxruntime dialect with the same codes and float32 activations."""


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    case, folder = CASES[request.param], tmp_path_factory.mktemp("portable")
    tiny_folder(folder / "checkpoint", case.family, **{"initializer_range": RANGE, **case.options})
    recipe: dict[str, Any] = {"weights": case.weights, "block": case.block, "method": "rtn"}
    export(folder / "checkpoint", folder / "portable.edge", engine="tensorrt", fidelity=False, **recipe)
    convert(folder / "portable.edge", folder / "stock.edge", engine="onnxruntime")
    float_activations(folder / "stock.edge")
    with opened(folder / "stock.edge") as engine:
        stock = engine_logits(engine, TOKENS, PROMPT)
    model = reference_model(folder / "checkpoint")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.from_numpy(dequantized(parameter.numpy(), case)))
    return Exported(folder / "portable.edge", reference_logits(model, TOKENS, PROMPT), stock)


def dequantized(rows: NDArray[np.float32], case: Case) -> NDArray[np.float32]:
    precision = Precision(int(case.weights.removeprefix("int")), case.block, positive=True)
    found = RoundToNearest().quantize(precision.padded(rows), precision)
    return found.dequantize(precision.bits)[:, : rows.shape[1]]


def mean_error(ours: Logits, theirs: Logits) -> float:
    return float(np.abs(ours - theirs).mean() / np.abs(theirs).max())


@pytest.mark.parametrize("form", FORMS)
def test_prefill_and_cached_steps(exported: Exported, form: str) -> None:
    ours = portable_logits(portable_run(exported.artifact, form), TOKENS, PROMPT)
    for expected in (exported.transformers, exported.stock):
        assert relative_error(ours, expected) <= WORST
        assert mean_error(ours, expected) <= TYPICAL


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_option_of_a_configuration(name: str, tmp_path: Path) -> None:
    """With float16 weights, which both sides have: activations alone differ."""
    case = CHECKPOINTS[name]
    options = {"initializer_range": RANGE, **case.options}
    write_checkpoint(tmp_path / "checkpoint", replace(case, options=options, dtype="float16"))
    export(tmp_path / "checkpoint", tmp_path / "m.edge", engine="tensorrt", weights="fp16", fidelity=False)
    model = reference_model(tmp_path / "checkpoint", case.reference_rope)
    tokens = [token % model.config.vocab_size for token in TOKENS]
    expected = reference_logits(model, tokens, PROMPT)
    half = mean_error(reference_logits(model.half(), tokens, PROMPT), expected)
    for form in FORMS:
        ours = portable_logits(portable_run(tmp_path / "m.edge", form), tokens, PROMPT)
        assert relative_error(ours, expected) <= WORST, form
        assert mean_error(ours, expected) <= half, form


def read_as(artifact: Path, layer: int) -> str:
    """The operator that takes the keys of the cache, where they are its first input."""
    nodes = onnx.load(artifact / "tensorrt/opset21.onnx", load_external_data=False).graph.node
    # One asks for the capacity.
    (kind,) = {n.op_type for n in nodes if n.input[0] == f"past.{layer}.key"} - {"Shape"}
    return str(kind)


def test_a_bias_of_keys_that_float16_scores_do_not_hold(tmp_path: Path) -> None:
    """As Qwen2.5 has them, on pairs that hardly turn: 270 in every score of the first layer."""
    rope = {"rope_type": "default", "rope_theta": 1e8}
    options = {"initializer_range": RANGE, "rope_parameters": rope, **WIDE}
    model = tiny_folder(tmp_path / "checkpoint", "qwen2", **options)
    attention = model.model.layers[0].self_attn
    with torch.no_grad():
        for projection, bias in ((attention.q_proj, 16.0), (attention.k_proj, 6.0)):
            projection.bias.view(-1, 2, 16)[:, :, 8:] = bias
    model.half().save_pretrained(tmp_path / "checkpoint")
    export(tmp_path / "checkpoint", tmp_path / "m.edge", engine="tensorrt", weights="fp16", fidelity=False)
    assert [read_as(tmp_path / "m.edge", layer) for layer in range(2)] == ["Cast", "MatMul"]
    expected = reference_logits(reference_model(tmp_path / "checkpoint"), TOKENS, PROMPT)
    ours = portable_logits(portable_run(tmp_path / "m.edge", "opset21"), TOKENS, PROMPT)
    # The keys themselves are rounded off; float16 scores are off by 0.025.
    assert relative_error(ours, expected) <= 4 * WORST


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint for both engines, with KV in codes of the same scales."""
    folder = tmp_path_factory.mktemp("coded")
    options = {"initializer_range": RANGE, "hidden_size": 96, "num_attention_heads": 6}
    tiny_folder(folder / "checkpoint", "qwen2", dtype="float16", **options)
    paths = {engine: folder / f"{engine}.edge" for engine in ("tensorrt", "onnxruntime")}
    for engine, path in paths.items():
        export(folder / "checkpoint", path, engine=engine, weights="fp16", kv="int8", fidelity=False)
    return paths


def test_kv_in_codes_is_that_of_the_other_dialect(coded: dict[str, Path]) -> None:
    run = portable_run(coded["tensorrt"], "opset21")
    ours = portable_logits(run, TOKENS, PROMPT)
    with opened(coded["onnxruntime"]) as engine:
        expected = engine_logits(engine, TOKENS, PROMPT)
        cache = engine.new_cache()
        assert isinstance(cache, OnnxRuntimeCache)
        engine.run([Step(TOKENS, cache, [])])
        theirs = [[x[0, :, : cache.length] for x in pair] for pair in cache.buffers()]
    # What float16 rounds may fall to the next code.
    assert relative_error(ours, expected) <= 4 * WORST
    assert mean_error(ours, expected) <= 2 * TYPICAL
    for layer, pair in enumerate(theirs):
        for kind, codes in zip(("key", "value"), pair, strict=True):
            held = run.rows(f"{layer}.{kind}")
            assert held.dtype == codes.dtype == np.int8
            off = np.abs(held.astype(int) - codes)
            assert off.max() <= 1
            assert off.mean() <= 0.05


def test_kv_in_codes_comes_in_the_form_that_holds_it(coded: dict[str, Path]) -> None:
    manifest = open_artifact(coded["tensorrt"]).manifest
    assert [v.dialect for v in manifest.variants] == ["portable-opset21"]
    assert {(group.type, group.scale_group) for group in manifest.kv} == {("int8", 1)}
    assert "kv_calibration" in " ".join(manifest.provenance)
    assert sorted(path.name for path in (coded["tensorrt"] / "tensorrt").iterdir()) == [
        "opset21.onnx",
        "weights.bin",
    ]
    assert not [path for path in coded["tensorrt"].iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_real_model(tmp_path: Path) -> None:
    """SmolLM2-135M, in both forms."""
    export(models.smollm2(), tmp_path / "m.edge", engine="tensorrt", method="rtn", fidelity=False)
    convert(tmp_path / "m.edge", tmp_path / "stock.edge", engine="onnxruntime")
    float_activations(tmp_path / "stock.edge")
    text = "Photosynthesis is the process by which green plants use sunlight to make food from water and air."
    tokens = Tokenizer.from_str(open_artifact(tmp_path / "m.edge").tokenizer_json).encode(text).ids
    with opened(tmp_path / "stock.edge") as engine:
        expected = engine_logits(engine, tokens, len(tokens) - 4)
    for form in FORMS:
        ours = portable_logits(portable_run(tmp_path / "m.edge", form, 64), tokens, len(tokens) - 4)
        assert relative_error(ours, expected) <= WORST
        assert mean_error(ours, expected) <= TYPICAL
        assert (ours.argmax(1) == expected.argmax(1)).all()
