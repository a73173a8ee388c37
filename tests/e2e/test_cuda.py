"""The onnxruntime dialect in float16 beside float32 with the same codes, and beside transformers with their weights.

The graph is CUDA's, computed by ONNX Runtime on the CPU. float16 has 11 bits: what is rounded to it is off by up to
2^-11 of its size, some dozen times on the way to a logit. On these models that adds up to 0.0015 of the largest logit
at most, and in the mean to less than what transformers in float16 is off by. Twice that is allowed: another ONNX
Runtime adds up in another order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from edge.artifact import open_artifact
from export import convert, export
from export.quantize import Precision, RoundToNearest
from tests import models
from tests.checkpoints import tiny_folder
from tests.e2e.oracle import PROMPT, TOKENS, reference_logits, reference_model
from tests.e2e.test_oracle import CASES as CHECKPOINTS
from tests.e2e.test_oracle import MIXED, SLIDING, write_checkpoint
from tests.e2e.test_portable import TYPICAL, WORST, mean_error
from tests.e2e.test_quantized import PADDED, RANGE, TIED, WIDE, Case, float_activations
from tests.logits import Logits, engine_logits, opened, relative_error
from tests.runtimes.on_the_host import on_the_host

CASES: dict[str, Case] = {
    "llama, int4": Case("int4"),
    "llama, int4, tied": Case("int4", 64, options={**TIED, **WIDE}),
    "llama, int4, zero points, tied": Case("int4", 32, True, options={**TIED, **WIDE}),
    "llama, int4, padded, all biases": Case("int4", 128, options={**PADDED, **TIED}),
    "llama, int8, zero points, padded": Case("int8", 32, True, options={**PADDED, **TIED}),
    "llama, int8, heads turned outside": Case("int8", options={"head_dim": 24}),
    "mistral, int4, window": Case("int4", family="mistral", options={"sliding_window": 12}),
    "qwen2, int4": Case("int4", 128, family="qwen2", options={**WIDE, **TIED}),
    "qwen2, int4, window by layer": Case(
        "int4", family="qwen2", options={**SLIDING, "layer_types": MIXED, "num_hidden_layers": 3}
    ),
    "qwen3, int4": Case("int4", family="qwen3", options={"attention_bias": True}),
    "qwen3, int8": Case("int8", 128, family="qwen3", options={**WIDE, **TIED, "num_key_value_heads": 1}),
}


def cuda_logits(artifact: Path, tokens: list[int] = TOKENS, prompt: int = PROMPT) -> Logits:
    engine = on_the_host(artifact)
    try:
        return engine_logits(engine, tokens, prompt)
    finally:
        engine.close()


@dataclass(frozen=True)
class Exported:
    """An artifact, and what it should say."""

    artifact: Path
    transformers: Logits
    stock: Logits
    """Of the same dialect with the same codes and float32 activations."""


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    case, folder = CASES[request.param], tmp_path_factory.mktemp("cuda")
    tiny_folder(folder / "checkpoint", case.family, **{"initializer_range": RANGE, **case.options})
    recipe: dict[str, Any] = {"weights": case.weights, "block": case.block, "zero_points": case.zero_points}
    export(folder / "checkpoint", folder / "cuda.edge", engine="cuda", method="rtn", fidelity=False, **recipe)
    convert(folder / "cuda.edge", folder / "stock.edge", engine="onnxruntime")
    float_activations(folder / "stock.edge")
    with opened(folder / "stock.edge") as engine:
        stock = engine_logits(engine, TOKENS, PROMPT)
    model = reference_model(folder / "checkpoint")
    precision = Precision(case.bits, case.block, case.zero_points)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                rows = parameter.numpy()
                found = RoundToNearest().quantize(precision.padded(rows), precision)
                parameter.copy_(torch.from_numpy(found.dequantize(case.bits)[:, : rows.shape[1]]))
    return Exported(folder / "cuda.edge", reference_logits(model, TOKENS, PROMPT), stock)


def test_prefill_and_cached_steps(exported: Exported) -> None:
    ours = cuda_logits(exported.artifact)
    for expected in (exported.transformers, exported.stock):
        assert relative_error(ours, expected) <= WORST
        assert mean_error(ours, expected) <= TYPICAL


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_option_of_a_configuration(name: str, tmp_path: Path) -> None:
    """With float16 weights, which both sides have: activations alone differ."""
    case = CHECKPOINTS[name]
    options = {"initializer_range": RANGE, **case.options}
    write_checkpoint(tmp_path / "checkpoint", replace(case, options=options, dtype="float16"))
    export(tmp_path / "checkpoint", tmp_path / "m.edge", engine="cuda", weights="fp16", fidelity=False)
    model = reference_model(tmp_path / "checkpoint", case.reference_rope)
    tokens = [token % model.config.vocab_size for token in TOKENS]
    expected = reference_logits(model, tokens, PROMPT)
    half = mean_error(reference_logits(model.half(), tokens, PROMPT), expected)
    ours = cuda_logits(tmp_path / "m.edge", tokens)
    assert relative_error(ours, expected) <= WORST
    assert mean_error(ours, expected) <= half


@pytest.mark.slow
def test_a_real_model(tmp_path: Path) -> None:
    """SmolLM2-135M, 30 layers of rounding: transformers in float16 is off by 0.0075 at worst and 0.0004 in the mean."""
    export(models.smollm2(), tmp_path / "m.edge", engine="cuda", method="rtn", fidelity=False)
    convert(tmp_path / "m.edge", tmp_path / "stock.edge", engine="onnxruntime")
    float_activations(tmp_path / "stock.edge")
    text = "Photosynthesis is the process by which green plants use sunlight to make food from water and air."
    tokens = Tokenizer.from_str(open_artifact(tmp_path / "m.edge").tokenizer_json).encode(text).ids
    with opened(tmp_path / "stock.edge") as engine:
        expected = engine_logits(engine, tokens, len(tokens) - 4)
    ours = cuda_logits(tmp_path / "m.edge", tokens, len(tokens) - 4)
    assert relative_error(ours, expected) <= 2.5 * WORST
    assert mean_error(ours, expected) <= 2 * TYPICAL
    assert (ours.argmax(1) == expected.argmax(1)).mean() >= 0.9
