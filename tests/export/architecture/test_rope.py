"""RoPE of a configuration: frequencies and factors beside transformers' own rotary embeddings."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from edge.artifact.spec import Rope
from edge.errors import CheckpointCorrupt, CheckpointError, Unsupported
from export.architecture import family_for_model_type
from export.architecture.fields import Fields
from export.architecture.rope import rope_from_gguf
from export.graph.rope_table import rope_tables
from tests.checkpoints import SIZES

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
R1_0528 = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32768,
    "attn_factor": 0.8782488562869419,
}
# What config.json says of RoPE: older ones have rope_theta and rope_scaling, newer ones rope_parameters.
SPELLINGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "older, theta": {"rope_theta": 500000.0},
    "older, null scaling": {"rope_theta": 500000.0, "rope_scaling": None},
    "older, linear as type": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "older, dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "older, llama3": {"rope_theta": 500000.0, "rope_scaling": LLAMA3},
    "older, llama3 without original": {
        "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "original_max_position_embeddings"}
    },
    "older, yarn": {"rope_theta": 1e6, "rope_scaling": YARN},
    "older, yarn without original": {"rope_scaling": {"type": "yarn", "factor": 4.0}},
    "older, original at the top": {
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
        "original_max_position_embeddings": 64,
    },
    "newer, default": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "newer, linear": {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 1e6}},
    "newer, dynamic": {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e6}},
    "newer, llama3": {"rope_parameters": {**LLAMA3, "rope_theta": 500000.0}},
    "newer, yarn": {"rope_parameters": {**YARN, "rope_theta": 1e6}},
    "newer, theta at the top": {"rope_theta": 1e6, "rope_parameters": YARN},
    "both, the older counts": {
        "rope_theta": 5e5,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
    "yarn, whole factor": {"rope_parameters": {**YARN, "attention_factor": 1.25}},
    "yarn, factor 1": {"rope_parameters": {**YARN, "factor": 1.0}},
    "yarn, betas": {"rope_parameters": {**YARN, "beta_fast": 16, "beta_slow": 2}},
    "yarn, null betas": {"rope_parameters": {**YARN, "beta_fast": None, "beta_slow": None}},
    "yarn, not truncated": {"rope_parameters": {**YARN, "truncate": False}},
    "yarn, mscales": {"rope_parameters": {**YARN, "mscale": 0.707, "mscale_all_dim": 1.0}},
    "yarn, equal mscales": {"rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}},
    "yarn, one mscale": {"rope_parameters": {**YARN, "mscale": 0.707}},
    "yarn, null factor": {"rope_parameters": {**YARN, "factor": None}},
}


def configuration(model_type: str, **changes: Any) -> dict[str, Any]:
    return {"model_type": model_type, "rms_norm_eps": 1e-6, **SIZES, **changes}


def rotary(config: dict[str, Any]) -> Any:
    settings = transformers.AutoConfig.for_model(**json.loads(json.dumps(config)))
    model = transformers.AutoModelForCausalLM.from_config(settings)
    return model.model.rotary_emb


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_angles_are_transformers_own(model_type: str, spelling: str) -> None:
    config = configuration(model_type, head_dim=32, **SPELLINGS[spelling])
    spec = family_for_model_type(model_type).spec_from_config(config)
    theirs = rotary(config)
    cos, sin = rope_tables(spec)
    # One sequence as long as the context; a dynamic base is compared where both have the same length.
    length = spec.context if spec.rope.kind != "dynamic" else spec.rope.original_context
    expected_cos, expected_sin = theirs(torch.zeros(1), torch.arange(length)[None])
    np.testing.assert_allclose(cos[:length], expected_cos[0, :, :16].numpy(), atol=2e-5)
    np.testing.assert_allclose(sin[:length], expected_sin[0, :, :16].numpy(), atol=2e-5)
    assert spec.rope.attention_factor == pytest.approx(theirs.attention_scaling, rel=1e-12)


@pytest.mark.parametrize(
    ("spelling", "context"),
    [
        ({}, 256),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 256),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, 1024),
        ({"rope_scaling": LLAMA3}, 256),
        ({"rope_scaling": YARN}, 256),
        ({"rope_scaling": {**YARN, "original_max_position_embeddings": 256}}, 1024),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, 256),
    ],
)
def test_the_context_is_what_the_scaling_makes_of_it(spelling: dict[str, Any], context: int) -> None:
    spec = family_for_model_type("llama").spec_from_config(configuration("llama", **spelling))
    assert spec.context == context
    if spec.rope.kind == "dynamic":
        assert spec.rope.original_context == 256


def test_the_factor_of_r1_0528_cancels_yarn_s() -> None:
    config = configuration(
        "qwen3", head_dim=128, max_position_embeddings=131072, rope_theta=1e6, rope_scaling=R1_0528
    )
    spec = family_for_model_type("qwen3").spec_from_config(config)
    assert spec.context == 131072
    assert spec.rope == Rope(
        theta=1e6,
        kind="yarn",
        factor=4.0,
        original_context=32768,
        attention_factor=pytest.approx(1.0, abs=1e-12),
    )


WRONG: dict[str, tuple[dict[str, Any], type[CheckpointError], str]] = {
    "unknown kind": ({"rope_scaling": {"rope_type": "longrope"}}, Unsupported, "'longrope' is not known"),
    "kind a number": ({"rope_scaling": {"rope_type": 3}}, CheckpointCorrupt, "rope_type is 3"),
    "scaling a text": ({"rope_scaling": "linear"}, CheckpointCorrupt, "rope_scaling is 'linear'"),
    "no factor": (
        {"rope_scaling": {"rope_type": "linear"}},
        CheckpointCorrupt,
        "rope_scaling: factor is missing",
    ),
    "factor 0": ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, CheckpointCorrupt, "factor is 0"),
    "factor negative": ({"rope_scaling": {**YARN, "factor": -4.0}}, CheckpointCorrupt, "factor is -4"),
    "factor NaN": ({"rope_scaling": {**YARN, "factor": math.nan}}, CheckpointCorrupt, "factor is nan"),
    "factor huge": (
        {"rope_scaling": {"type": "dynamic", "factor": 1e12}},
        CheckpointCorrupt,
        "max_position_embeddings",
    ),
    "factor true": ({"rope_scaling": {**YARN, "factor": True}}, CheckpointCorrupt, "factor is True"),
    "factor beyond floats": (
        {"rope_scaling": {**YARN, "factor": 10**400}},
        CheckpointCorrupt,
        "factor is 1000",
    ),
    "theta 0": ({"rope_theta": 0.0}, CheckpointCorrupt, "rope_theta is 0"),
    "theta inf": ({"rope_parameters": {"rope_theta": math.inf}}, CheckpointCorrupt, "rope_theta is inf"),
    "llama3 without high": (
        {"rope_scaling": {**LLAMA3, "high_freq_factor": None}},
        CheckpointCorrupt,
        "high_freq_factor is missing",
    ),
    "llama3 crossed": (
        {"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}},
        CheckpointCorrupt,
        "high_freq_factor is 1",
    ),
    "original 0": (
        {"rope_scaling": {**YARN, "original_max_position_embeddings": 0}},
        CheckpointCorrupt,
        "is 0",
    ),
    "partial": ({"partial_rotary_factor": 0.5}, Unsupported, "partial_rotary_factor is 0.5"),
    "partial inside": (
        {"rope_parameters": {"partial_rotary_factor": 0.25}},
        Unsupported,
        "rope_parameters: partial_rotary_factor is 0.25",
    ),
    "by layer": (
        {"rope_parameters": {"full_attention": {"rope_theta": 1e6}}},
        Unsupported,
        "differs by layer",
    ),
    "truncate a number": ({"rope_scaling": {**YARN, "truncate": 1}}, CheckpointCorrupt, "truncate is 1"),
    "head_dim odd": ({"head_dim": 15}, CheckpointCorrupt, "head_dim is 15"),
    "head_dim 2 and dynamic": (
        {"head_dim": 2, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        Unsupported,
        "head_dim of at least 4",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_named(case: str) -> None:
    changes, error, message = WRONG[case]
    with pytest.raises(error, match=message) as raised:
        family_for_model_type("llama").spec_from_config(configuration("llama", **changes))
    assert type(raised.value) is error


class Divisors:
    """Stands for the tensor rope_freqs.weight."""

    def __init__(self, values: list[float]) -> None:
        self.values = np.array(values, np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def read(self) -> np.ndarray:
        return self.values


STRETCHED = 0.1 * math.log(4.0) + 1.0
GGUF: dict[str, tuple[dict[str, Any], list[float] | None, Rope]] = {
    "nothing": ({}, None, Rope()),
    "theta": ({"freq_base": 1e6}, None, Rope(theta=1e6)),
    "type none": ({"scaling.type": "none", "scaling.factor": 4.0}, None, Rope()),
    "factor alone is linear": ({"scaling.factor": 4.0}, None, Rope(kind="linear", factor=4.0)),
    "factor 0 is none": ({"scaling.type": "linear", "scaling.factor": 0.0}, None, Rope()),
    "older key": ({"scale_linear": 2.0}, None, Rope(kind="linear", factor=2.0)),
    "divisors": ({}, [1.0, 2.0, 8.0, 8.0], Rope(kind="factors", factors=(1.0, 2.0, 8.0, 8.0))),
    "divisors and a factor": (
        {"scaling.factor": 2.0},
        [1.0, 2.0, 8.0, 8.0],
        Rope(kind="factors", factors=(2.0, 4.0, 16.0, 16.0)),
    ),
    "yarn": (
        {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.original_context_length": 64},
        None,
        Rope(kind="yarn", factor=4.0, original_context=64, attention_factor=STRETCHED),
    ),
    "yarn, no original": (
        {"scaling.type": "yarn", "scaling.factor": 4.0},
        None,
        Rope(kind="yarn", factor=4.0, original_context=256, attention_factor=STRETCHED),
    ),
    "yarn, R1-0528's multiplier": (
        {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.yarn_attn_factor": 1 / STRETCHED},
        None,
        Rope(kind="yarn", factor=4.0, original_context=256, attention_factor=pytest.approx(1.0)),
    ),
    "yarn, a whole": (
        {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.yarn_attn_factor": 1.25},
        None,
        Rope(kind="yarn", factor=4.0, original_context=256, attention_factor=1.25),
    ),
    "yarn, attn_factor multiplies": (
        {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.attn_factor": 0.5},
        None,
        Rope(kind="yarn", factor=4.0, original_context=256, attention_factor=STRETCHED / 2),
    ),
    "yarn, log multiplier": (
        {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.yarn_log_multiplier": 1.0},
        None,
        Rope(kind="yarn", factor=4.0, original_context=256, attention_factor=1.0),
    ),
    "yarn, betas": (
        {
            "scaling.type": "yarn",
            "scaling.factor": 1.0,
            "scaling.yarn_beta_fast": 16.0,
            "scaling.yarn_beta_slow": 2.0,
        },
        None,
        Rope(kind="yarn", original_context=256, beta_fast=16.0, beta_slow=2.0),
    ),
}


def from_gguf(values: dict[str, Any], divisors: list[float] | None) -> Rope:
    fields = Fields("GGUF metadata", {f"llama.rope.{key}": value for key, value in values.items()}, "llama.")
    tensors = {} if divisors is None else {"rope_freqs.weight": Divisors(divisors)}
    return rope_from_gguf(fields, tensors, 256, 8)


@pytest.mark.parametrize("case", GGUF)
def test_gguf_metadata_says_the_same(case: str) -> None:
    values, divisors, expected = GGUF[case]
    assert from_gguf(values, divisors) == expected


@pytest.mark.parametrize(
    ("values", "divisors", "error", "message"),
    [
        ({"dimension_count": 4}, None, Unsupported, "dimension_count is 4 of a head of 8"),
        ({"scaling.type": "longrope"}, None, Unsupported, "'longrope' is not known"),
        ({"scaling.type": "yarn", "scaling.yarn_ext_factor": 0.0}, None, Unsupported, "yarn_ext_factor 0.0"),
        ({"scaling.attn_factor": 2.0}, None, Unsupported, "attn_factor 2.0 without YaRN"),
        ({}, [1.0, 2.0], CheckpointCorrupt, r"rope_freqs\.weight has shape \(2,\), expected \(4,\)"),
        ({}, [1.0, 2.0, 0.0, 1.0], CheckpointCorrupt, "not finite and above 0"),
        ({}, [1.0, 2.0, math.nan, 1.0], CheckpointCorrupt, "not finite and above 0"),
    ],
)
def test_gguf_metadata_that_is_wrong_is_named(
    values: dict[str, Any], divisors: list[float] | None, error: type[CheckpointError], message: str
) -> None:
    with pytest.raises(error, match=message):
        from_gguf(values, divisors)
