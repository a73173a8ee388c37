"""The portable dialect beside the onnxruntime one with the same codes, and beside transformers on what they stand for.

What is rounded to float16 adds up to 0.0021 of the largest logit at most on these models, and in the mean to less than
what transformers itself, in float16 from end to end, is off by.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edge.artifact import open_artifact
from export import export
from runtimes.onnxruntime.cache import OnnxRuntimeCache
from runtimes.protocol import Step
from tests.checkpoints import tiny_folder
from tests.e2e.half import TYPICAL, WORST, Exported, configured, exported_case, mean_error, real_model
from tests.e2e.oracle import PROMPT, TOKENS, reference_logits, reference_model
from tests.e2e.test_oracle import CASES as CHECKPOINTS
from tests.e2e.test_oracle import MIXED, SLIDING
from tests.e2e.test_quantized import RANGE, TIED, WIDE, Case
from tests.logits import engine_logits, opened, relative_error
from tests.portable import portable_logits, portable_run

FORMS = ["opset24", "opset21"]


# Rows of 76 and 90 weights: the last block is not full.
PADDED = {"hidden_size": 76, "intermediate_size": 90, "head_dim": 16}
CASES: dict[str, Case] = {
    "llama, int4": Case("int4"),
    "llama, int4, tied": Case("int4", block=64, options={**TIED, **WIDE}),
    "llama, int4, padded, all biases": Case(
        "int4", block=128, options={**PADDED, **TIED, "attention_bias": True, "mlp_bias": True}
    ),
    "llama, int8": Case("int8", block=32, options={"num_key_value_heads": 4}),
    "mistral, int4, window": Case("int4", family="mistral", block=32, options={"sliding_window": 12}),
    "mistral, int8, padded": Case(
        "int8", family="mistral", block=64, options={**PADDED, "sliding_window": None}
    ),
    "qwen2, int4": Case("int4", family="qwen2", block=128, options={**WIDE, **TIED}),
    "qwen2, int4, window by layer": Case(
        "int4", family="qwen2", block=32, options={**SLIDING, "layer_types": MIXED, "num_hidden_layers": 3}
    ),
    "qwen3, int4": Case("int4", family="qwen3", block=32, options={"attention_bias": True}),
    "qwen3, int8": Case(
        "int8", family="qwen3", block=128, options={**WIDE, **TIED, "num_key_value_heads": 1}
    ),
}


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported_case(CASES[request.param], "tensorrt", tmp_path_factory.mktemp("portable"))


@pytest.mark.parametrize("form", FORMS)
def test_prefill_and_cached_steps(exported: Exported, form: str) -> None:
    ours = portable_logits(portable_run(exported.artifact, form), TOKENS, PROMPT)
    for expected in (exported.transformers, exported.stock):
        assert relative_error(ours, expected) <= WORST
        assert mean_error(ours, expected) <= TYPICAL


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_option_of_a_configuration(name: str, tmp_path: Path) -> None:
    """With float16 weights, which both sides have: activations alone differ."""
    case = configured(name, "tensorrt", tmp_path)
    for form in FORMS:
        ours = portable_logits(portable_run(case.artifact, form), case.tokens, PROMPT)
        assert relative_error(ours, case.expected) <= WORST, form
        assert mean_error(ours, case.expected) <= case.half, form


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
    artifact, tokens, expected = real_model("tensorrt", tmp_path)
    for form in FORMS:
        ours = portable_logits(portable_run(artifact, form, 64), tokens, len(tokens) - 4)
        assert relative_error(ours, expected) <= WORST
        assert mean_error(ours, expected) <= TYPICAL
        assert (ours.argmax(1) == expected.argmax(1)).all()
