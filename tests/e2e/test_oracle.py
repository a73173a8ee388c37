"""fp32 artifacts of every option that a family's config can carry, beside transformers: prefill, then cached steps."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge.artifact import open_artifact
from edge.errors import Unsupported
from export import export
from tests.checkpoints import llama3_factors, state_arrays, tiny_folder, write_gguf
from tests.e2e.oracle import PROMPT, TOKENS, reference_logits, reference_model
from tests.logits import engine_logits, opened, relative_error

BOUND = 1e-4
CHUNK = 16
DELETE = object()


@dataclass(frozen=True)
class Case:
    """A checkpoint: `options` for transformers' configuration, then `edits` of the config.json it wrote."""

    family: str
    options: dict[str, Any] = field(default_factory=dict)
    edits: dict[str, Any] = field(default_factory=dict)
    reference_rope: dict[str, Any] = field(default_factory=dict)
    """What transformers must be told because it does not read it from config.json."""
    dtype: str = "float32"
    shard: str = "5GB"
    weights: str = "fp32"


LINEAR = {"rope_type": "linear", "factor": 3.0, "rope_theta": 1000.0}
# The prompt lies inside the original context, the steps leave it.
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 4.0,
    "beta_slow": 1.0,
}
R1_0528 = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "attn_factor": 0.8782488562869419,
}
BIASES = {"attention_bias": True, "mlp_bias": True}
SLIDING = {"use_sliding_window": True, "sliding_window": 12}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]


def yarn(**changes: Any) -> dict[str, Any]:
    return {"rope_parameters": {**YARN, **changes}}


def older(scaling: dict[str, Any] | None) -> dict[str, Any]:
    """Edits to the spelling of transformers 4."""
    return {
        "rope_parameters": DELETE,
        "rope_theta": 1000.0,
        "rope_scaling": scaling,
        "torch_dtype": "float32",
    }


CASES: dict[str, Case] = {
    "grouped heads": Case("llama"),
    "as many kv heads": Case("llama", {"num_key_value_heads": 4}),
    "one kv head": Case("llama", {"num_key_value_heads": 1}),
    "tied": Case("llama", {"tie_word_embeddings": True}),
    "attention bias": Case("llama", {"attention_bias": True}),
    "mlp bias": Case("llama", {"mlp_bias": True}),
    "all biases, tied, one kv head": Case(
        "llama", {**BIASES, "tie_word_embeddings": True, "num_key_value_heads": 1}
    ),
    "wide heads": Case("llama", {"head_dim": 24}),
    "narrow heads": Case("llama", {"head_dim": 8, "attention_bias": True}),
    "odd sizes": Case(
        "llama", {"hidden_size": 76, "intermediate_size": 90, "vocab_size": 331, "head_dim": 24}
    ),
    "large eps": Case("llama", {"rms_norm_eps": 0.3}),
    "theta": Case("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
    "linear": Case("llama", {"rope_parameters": LINEAR}),
    "dynamic": Case("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": 48}),
    "dynamic, never stretched": Case("llama", {"rope_parameters": DYNAMIC}),
    "llama3": Case("llama", {"rope_parameters": LLAMA3}),
    "yarn": Case("llama", yarn()),
    "yarn, whole factor": Case("llama", yarn(attention_factor=1.7)),
    "yarn, mscales": Case("llama", yarn(mscale=1.4, mscale_all_dim=0.6)),
    "yarn, not truncated": Case("llama", yarn(truncate=False, beta_fast=8.0, beta_slow=2.0)),
    "older spelling": Case("llama", edits=older(None)),
    "older linear": Case("llama", edits=older({"type": "linear", "factor": 3.0})),
    "older dynamic": Case(
        "llama",
        {"max_position_embeddings": 48},
        older({"type": "dynamic", "factor": 4.0, "rope_type": "dynamic"}),
    ),
    "older llama3": Case("llama", edits=older(LLAMA3)),
    "older yarn": Case("llama", edits=older(YARN)),
    "bfloat16": Case("llama", dtype="bfloat16"),
    "float16": Case("llama", dtype="float16"),
    "sharded": Case("llama", shard="40KB"),
    "sharded bfloat16, tied": Case("llama", {"tie_word_embeddings": True}, dtype="bfloat16", shard="20KB"),
    "fp16 weights": Case("llama", {"attention_bias": True}, dtype="float16", weights="fp16"),
    "fp16 weights, tied": Case("qwen2", {"tie_word_embeddings": True}, dtype="float16", weights="fp16"),
    "mistral": Case("mistral", {"sliding_window": None}),
    "mistral, window": Case("mistral", {"sliding_window": 12}),
    # transformers' cache keeps all tokens for a window of 1.
    "mistral, window of two": Case("mistral", {"sliding_window": 2}),
    "mistral, window of prompt": Case("mistral", {"sliding_window": PROMPT, "head_dim": 24}),
    "mistral, window of all": Case("mistral", {"sliding_window": 4096}),
    "mistral, window and linear": Case("mistral", {"sliding_window": 30, "rope_parameters": LINEAR}),
    "qwen2": Case("qwen2"),
    "qwen2, tied": Case("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "qwen2, yarn": Case("qwen2", yarn()),
    "qwen2, window not used": Case("qwen2", edits={"use_sliding_window": False, "sliding_window": 12}),
    "qwen2, window on upper layers": Case(
        "qwen2", {**SLIDING, "max_window_layers": 1, "num_hidden_layers": 3}
    ),
    "qwen2, window by layer": Case("qwen2", {**SLIDING, "layer_types": MIXED, "num_hidden_layers": 3}),
    "qwen2, older window": Case(
        "qwen2",
        {**SLIDING, "max_window_layers": 1},
        {
            "layer_types": DELETE,
            **older({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
        },
    ),
    "qwen3": Case("qwen3"),
    "qwen3, wide heads": Case("qwen3", {"head_dim": 24, "num_key_value_heads": 4}),
    "qwen3, all options": Case(
        "qwen3",
        {"attention_bias": True, "tie_word_embeddings": True, "head_dim": 8, "num_key_value_heads": 1},
    ),
    "qwen3, heads that do not divide": Case(
        "qwen3", {"hidden_size": 64, "num_attention_heads": 6, "num_key_value_heads": 3}
    ),
    "qwen3, windows": Case("qwen3", {**SLIDING, "layer_types": MIXED, "num_hidden_layers": 3}),
    "qwen3, dynamic": Case("qwen3", {"rope_parameters": DYNAMIC, "max_position_embeddings": 48}),
    "qwen3, as R1-0528": Case(
        "qwen3", {"max_position_embeddings": 128}, older(R1_0528), reference_rope={"attention_factor": 1.0}
    ),
    "qwen3, bfloat16": Case("qwen3", {"attention_bias": True}, dtype="bfloat16", shard="40KB"),
}


def write_checkpoint(folder: Path, case: Case) -> Any:
    """Write the folder; return transformers' model of it, in float32."""
    tiny_folder(folder, case.family, dtype=case.dtype, shard=case.shard, **case.options)
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **case.edits}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not DELETE}))
    return reference_model(folder, case.reference_rope)


def errors(artifact: Path, model: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The error of the artifact with the prompt in one chunk, and with the prompt in several."""
    tokens = [token % model.config.vocab_size for token in TOKENS]
    expected = reference_logits(model, tokens, PROMPT)
    with opened(artifact) as engine:
        whole = engine_logits(engine, tokens, PROMPT)
        monkeypatch.setattr("runtimes.onnxruntime.engine.CHUNK", CHUNK)
        in_chunks = engine_logits(engine, tokens, PROMPT)
    return [relative_error(whole, expected), relative_error(in_chunks, expected)]


@pytest.mark.parametrize("name", CASES)
def test_logits_are_transformers_own(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    model = write_checkpoint(tmp_path / "checkpoint", case)
    artifact = tmp_path / "model.edge"
    export(tmp_path / "checkpoint", artifact, weights=case.weights)
    assert max(errors(artifact, model, monkeypatch)) <= BOUND


# How a GGUF says what differs from what `write_gguf` makes of the configuration.
GGUF: dict[str, dict[str, Any]] = {
    "grouped heads": {},
    "as many kv heads": {},
    "one kv head": {},
    "tied": {},
    "attention bias": {},
    "all biases, tied, one kv head": {},
    "wide heads": {},
    "narrow heads": {},
    "odd sizes": {},
    "large eps": {},
    "theta": {},
    "linear": {},
    "llama3": {},
    "yarn": {},
    "yarn, whole factor": {},
    "mistral, window": {},
    "qwen2": {},
    "qwen2, tied": {},
    "qwen2, yarn": {},
    "qwen2, window by layer": {},
    "qwen3": {},
    "qwen3, wide heads": {},
    "qwen3, all options": {},
    "qwen3, windows": {},
    "qwen3, as R1-0528": {"metadata": {"qwen3.rope.scaling.yarn_attn_factor": R1_0528["attn_factor"]}},
}


@pytest.mark.parametrize("name", GGUF)
def test_logits_through_a_gguf(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_checkpoint(tmp_path / "checkpoint", CASES[name])
    config = model.config.to_dict()
    settings = dict(GGUF[name])
    if config["rope_parameters"]["rope_type"] == "llama3":
        settings["rope_factors"] = llama3_factors(config)
    write_gguf(tmp_path / "model.gguf", state_arrays(model), config, **settings)
    artifact = tmp_path / "model.edge"
    export(tmp_path / "model.gguf", artifact, weights="fp32")
    assert max(errors(artifact, model, monkeypatch)) <= BOUND


REQUIRES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("llama", {}, {}, "1.23.2"),
    ("llama", {"head_dim": 24}, {}, "1.23.2"),
    ("qwen3", {}, {"weights": "int8", "zero_points": True}, "1.23.2"),
    ("llama", {"hidden_size": 64}, {"zero_points": True}, "1.23.2"),
    # Three zero points for each row of the embedding; as many scales alone harm nothing.
    ("llama", {"hidden_size": 96}, {"zero_points": True}, "1.27.0"),
    ("llama", {"hidden_size": 96}, {}, "1.23.2"),
    ("mistral", {"sliding_window": 12}, {}, "1.24.0"),
    # No token is that far back.
    ("mistral", {"sliding_window": 256}, {}, "1.23.2"),
    ("mistral", {"sliding_window": 12, "hidden_size": 96}, {"zero_points": True}, "1.27.0"),
]


@pytest.mark.parametrize(("family", "options", "recipe", "oldest"), REQUIRES)
def test_the_oldest_engine_that_is_right_is_named(
    family: str, options: dict[str, Any], recipe: dict[str, Any], oldest: str, tmp_path: Path
) -> None:
    tiny_folder(tmp_path / "checkpoint", family, **options)
    export(tmp_path / "checkpoint", tmp_path / "model.edge", engine="onnxruntime", **recipe)
    assert open_artifact(tmp_path / "model.edge").variant("onnxruntime").requires == oldest


def test_heads_that_no_operator_takes_are_refused(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "checkpoint", "llama", head_dim=20)
    with pytest.raises(Unsupported, match=r"head_dim is 20.*multiples of 8"):
        export(tmp_path / "checkpoint", tmp_path / "model.edge", engine="onnxruntime")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
