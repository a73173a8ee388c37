"""The onnxruntime dialect in float16 beside float32 with the same codes, and beside transformers with their weights.

The graph is CUDA's, computed by ONNX Runtime on the CPU. What is rounded to float16 adds up to 0.0015 of the largest
logit at most on these models, and in the mean to less than what transformers in float16 is off by. Twice that is
allowed: another ONNX Runtime adds up in another order.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.half import TYPICAL, WORST, Exported, configured, exported_case, mean_error, real_model
from tests.e2e.oracle import PROMPT, TOKENS
from tests.e2e.test_oracle import CASES as CHECKPOINTS
from tests.e2e.test_oracle import MIXED, SLIDING
from tests.e2e.test_quantized import PADDED, TIED, WIDE, Case
from tests.logits import Logits, engine_logits, relative_error
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


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported_case(CASES[request.param], "cuda", tmp_path_factory.mktemp("cuda"))


def test_prefill_and_cached_steps(exported: Exported) -> None:
    ours = cuda_logits(exported.artifact)
    for expected in (exported.transformers, exported.stock):
        assert relative_error(ours, expected) <= WORST
        assert mean_error(ours, expected) <= TYPICAL


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_option_of_a_configuration(name: str, tmp_path: Path) -> None:
    """With float16 weights, which both sides have: activations alone differ."""
    case = configured(name, "cuda", tmp_path)
    ours = cuda_logits(case.artifact, case.tokens)
    assert relative_error(ours, case.expected) <= WORST
    assert mean_error(ours, case.expected) <= case.half


@pytest.mark.slow
def test_a_real_model(tmp_path: Path) -> None:
    """SmolLM2-135M, 30 layers of rounding: transformers in float16 is off by 0.0075 at worst and 0.0004 in the mean."""
    artifact, tokens, expected = real_model("cuda", tmp_path)
    ours = cuda_logits(artifact, tokens, len(tokens) - 4)
    assert relative_error(ours, expected) <= 2.5 * WORST
    assert mean_error(ours, expected) <= 2 * TYPICAL
    assert (ours.argmax(1) == expected.argmax(1)).mean() >= 0.9
