"""Families: what a config.json says of the decoder, beside the model transformers builds from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import CheckpointCorrupt, CheckpointError, Unsupported
from export.architecture import FAMILIES, family_for_gguf, family_for_model_type
from export.architecture.expected import expected_tensors
from export.architecture.names import gguf_name, hugging_face_name
from export.checkpoint.gguf_header import read_gguf_header
from tests import models
from tests.checkpoints import SIZES, state_arrays, tiny_model

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"attention_bias": True}),
    ("llama", {"mlp_bias": True, "tie_word_embeddings": True}),
    ("llama", {"head_dim": 24, "num_key_value_heads": 4}),
    ("mistral", {"head_dim": 8}),
    ("mistral", {"sliding_window": None, "tie_word_embeddings": True}),
    ("qwen2", {}),
    ("qwen2", {"head_dim": 24, "tie_word_embeddings": True}),
    ("qwen3", {}),
    ("qwen3", {"attention_bias": True, "head_dim": 24, "num_key_value_heads": 1}),
]


@pytest.mark.parametrize(("model_type", "options"), OPTIONS)
def test_expected_tensors_are_those_of_the_model(model_type: str, options: dict[str, Any]) -> None:
    model = tiny_model(model_type, **options)
    spec = family_for_model_type(model_type).spec_from_config(json.loads(model.config.to_json_string()))
    assert expected_tensors(spec) == {name: array.shape for name, array in state_arrays(model).items()}


@pytest.mark.parametrize(("model_type", "options"), OPTIONS)
def test_the_names_of_a_gguf_lead_back(model_type: str, options: dict[str, Any]) -> None:
    for name in state_arrays(tiny_model(model_type, **options)):
        stored = gguf_name(name)
        assert stored is not None
        assert hugging_face_name(stored) == name


@pytest.mark.parametrize(
    "name",
    ["blk.0.ffn_gate_exps.weight", "blk.x.attn_q.weight", "rope_freqs.weight", "", "blk.0.attn_q.scale"],
)
def test_a_name_of_no_family_has_no_other(name: str) -> None:
    assert hugging_face_name(name) is None
    assert gguf_name(name) is None


def configuration(model_type: str, **changes: Any) -> dict[str, Any]:
    return {"model_type": model_type, "rms_norm_eps": 1e-5, **SIZES, **changes}


DELETE = object()
DEFAULTS: list[tuple[str, str, Any]] = [
    ("llama", "head_dim", DELETE),
    ("llama", "head_dim", None),
    ("llama", "num_key_value_heads", DELETE),
    ("llama", "num_key_value_heads", None),
    ("llama", "tie_word_embeddings", DELETE),
    ("llama", "attention_bias", DELETE),
    ("llama", "mlp_bias", DELETE),
    ("mistral", "num_key_value_heads", DELETE),
    ("mistral", "sliding_window", DELETE),
    ("mistral", "sliding_window", None),
    ("qwen2", "num_key_value_heads", DELETE),
    ("qwen2", "use_sliding_window", DELETE),
    ("qwen3", "num_key_value_heads", DELETE),
    ("qwen3", "head_dim", DELETE),
]


@pytest.mark.parametrize(("model_type", "key", "value"), DEFAULTS)
def test_what_is_left_out_is_what_transformers_takes(model_type: str, key: str, value: Any) -> None:
    config = configuration(model_type, num_attention_heads=32, hidden_size=128)
    config[key] = value
    if value is DELETE:
        del config[key]
    spec = family_for_model_type(model_type).spec_from_config(config)
    theirs = transformers.AutoConfig.for_model(**json.loads(json.dumps(config)))
    assert spec.kv_heads == theirs.num_key_value_heads
    assert spec.head_dim == (
        getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads
    )
    assert spec.tied == theirs.tie_word_embeddings
    assert spec.norm_eps == theirs.rms_norm_eps
    if model_type == "llama":
        assert spec.qkv_bias == spec.output_bias == theirs.attention_bias
        assert spec.mlp_bias == theirs.mlp_bias
    if model_type == "mistral":
        assert spec.windows == ((theirs.sliding_window,) * 2 if theirs.sliding_window else ())


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_null_key_value_heads_are_as_many_as_heads(model_type: str) -> None:
    config = configuration(model_type, num_key_value_heads=None)
    assert family_for_model_type(model_type).spec_from_config(config).kv_heads == 4


WINDOWS: list[dict[str, Any]] = [
    {},
    {"sliding_window": 16},
    {"use_sliding_window": True},
    {"use_sliding_window": True, "sliding_window": 16},
    {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0},
    {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 3},
    {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0},
    {"use_sliding_window": True, "max_window_layers": 2},
    {"layer_types": ["full_attention"] * 4},
    {
        "use_sliding_window": True,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
]


@pytest.mark.parametrize("options", WINDOWS)
@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_windows_are_those_of_the_model_s_layers(model_type: str, options: dict[str, Any]) -> None:
    config = configuration(model_type, num_hidden_layers=4, **options)
    spec = family_for_model_type(model_type).spec_from_config(config)
    settings = transformers.AutoConfig.for_model(**json.loads(json.dumps(config)))
    model = transformers.AutoModelForCausalLM.from_config(settings)
    theirs = [layer.self_attn.sliding_window or 0 for layer in model.model.layers]
    assert [spec.window(layer) for layer in range(4)] == theirs


def without(key: str) -> dict[str, Any]:
    return {key: DELETE}


WRONG: list[tuple[str, dict[str, Any], type[CheckpointError], str]] = [
    *(
        ("llama", without(key), CheckpointCorrupt, f"config.json: {key} is missing")
        for key in (
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "vocab_size",
            "max_position_embeddings",
            "rms_norm_eps",
        )
    ),
    *(
        ("qwen2", {key: value}, CheckpointCorrupt, f"config.json: {key} is ")
        for key in (
            "hidden_size",
            "num_hidden_layers",
            "num_key_value_heads",
            "vocab_size",
            "max_position_embeddings",
        )
        for value in (0, -1, 1.5, "64", True, [64], 2**60)
    ),
    ("llama", {"rms_norm_eps": -1e-5}, CheckpointCorrupt, "rms_norm_eps is -1e-05"),
    ("llama", {"rms_norm_eps": "1e-5"}, CheckpointCorrupt, "rms_norm_eps is '1e-5'"),
    ("llama", {"rms_norm_eps": float("inf")}, CheckpointCorrupt, "rms_norm_eps is inf"),
    (
        "llama",
        {"num_key_value_heads": 3},
        CheckpointCorrupt,
        "num_attention_heads 4 is not a multiple of .* 3",
    ),
    (
        "llama",
        {"hidden_size": 66},
        CheckpointCorrupt,
        "hidden_size 66 is not a multiple of num_attention_heads 4",
    ),
    ("llama", {"tie_word_embeddings": "yes"}, CheckpointCorrupt, "tie_word_embeddings is 'yes'"),
    ("llama", {"attention_bias": 1}, CheckpointCorrupt, "attention_bias is 1"),
    ("llama", {"hidden_act": "gelu"}, Unsupported, "hidden_act 'gelu'"),
    ("llama", {"layer_types": ["sliding_attention"] * 2}, Unsupported, "sliding_attention"),
    ("mistral", {"layer_types": ["sliding_attention", "full_attention"]}, Unsupported, "layer_types"),
    ("qwen2", {"layer_types": ["full_attention"]}, CheckpointCorrupt, "layer_types is .* a list of 2"),
    ("qwen2", {"layer_types": ["linear_attention"] * 2}, Unsupported, "'linear_attention'"),
    ("qwen2", {"layer_types": [["x"]] * 2}, Unsupported, "layer_types"),
    ("qwen2", {"layer_types": ["sliding_attention"] * 2}, CheckpointCorrupt, "there is no window"),
    ("qwen3", {"use_sliding_window": True, "sliding_window": -4}, CheckpointCorrupt, "sliding_window is -4"),
]


@pytest.mark.parametrize(("model_type", "changes", "error", "message"), WRONG)
def test_a_wrong_value_is_named(
    model_type: str, changes: dict[str, Any], error: type[CheckpointError], message: str
) -> None:
    config = {
        key: value for key, value in configuration(model_type, **changes).items() if value is not DELETE
    }
    with pytest.raises(error, match=message) as raised:
        family_for_model_type(model_type).spec_from_config(config)
    assert type(raised.value) is error


def test_an_unknown_model_type_is_named_with_the_known() -> None:
    with pytest.raises(Unsupported, match=r"'gemma3' .*llama, mistral, qwen2, qwen3"):
        family_for_model_type("gemma3")
    with pytest.raises(Unsupported, match=r"'phi3' .*llama, qwen2, qwen3"):
        family_for_gguf("phi3")


def test_every_name_has_one_family() -> None:
    names = [name for family in FAMILIES for name in family.model_types]
    assert len(names) == len(set(names))
    assert all(family_for_model_type(name) in FAMILIES for name in names)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)
KEYS = [
    *configuration("llama"),
    "head_dim",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "layer_types",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "attention_bias",
    "mlp_bias",
    "tie_word_embeddings",
    "hidden_act",
    "partial_rotary_factor",
    "original_max_position_embeddings",
]


@given(
    model_type=st.sampled_from(["llama", "mistral", "qwen2", "qwen3"]),
    changes=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4),
)
def test_any_configuration_is_read_or_refused(model_type: str, changes: dict[str, Any]) -> None:
    config = {**configuration(model_type), **changes, "model_type": model_type}
    try:
        spec = family_for_model_type(model_type).spec_from_config(config)
    except CheckpointError:
        return
    assert spec.parameters > 0
    assert len(spec.windows) in (0, spec.layers)


def test_the_header_of_a_real_distill_gives_its_published_sizes() -> None:
    header = read_gguf_header(models.r1_header())
    spec = family_for_gguf("qwen2").spec_from_gguf(header.metadata, header.tensors)  # type: ignore[arg-type]
    assert spec.architecture == "qwen2"
    assert (spec.layers, spec.hidden_size, spec.intermediate_size) == (28, 3584, 18944)
    assert (spec.heads, spec.kv_heads, spec.head_dim, spec.vocab_size) == (28, 4, 128, 152064)
    assert (spec.context, spec.rope.theta, spec.rope.kind) == (131072, 10000.0, "default")
    assert spec.qkv_bias
    assert not spec.tied
    stored = {hugging_face_name(info.name): info.shape for info in header.tensors.values()}
    assert stored == expected_tensors(spec)
