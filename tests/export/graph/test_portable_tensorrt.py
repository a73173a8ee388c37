"""TensorRT for RTX reads both forms and builds them ahead of time; no GPU is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from edge.artifact import open_artifact
from export import export
from export.graph.capacity import with_capacity
from export.graph.portable_form import FORMS
from tests.checkpoints import tiny_folder
from tests.export.network import check_values, log, parsed, trt

CAPACITY, CHUNK = 64, 32
TARGETS = ("SM86", "SM89", "SM120")

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama, int4": ("llama", {}, {"block": 32}),
    "qwen2, int8, tied": ("qwen2", {"tie_word_embeddings": True}, {"weights": "int8", "block": 64}),
    # Rows of 76 and 90 weights, whose last block is not full.
    "mistral, int4, window, padded": (
        "mistral",
        {"sliding_window": 12, "hidden_size": 76, "intermediate_size": 90, "head_dim": 16},
        {"block": 128},
    ),
    "qwen3, int4, tied": ("qwen3", {"tie_word_embeddings": True, "attention_bias": True}, {"block": 32}),
    "qwen2, int4, KV in int8": ("qwen2", {}, {"kv": "int8"}),
    "llama, fp16": ("llama", {"num_key_value_heads": 4}, {"weights": "fp16"}),
}


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
@pytest.mark.parametrize("case", CASES)
def test_it_parses_without_a_warning_and_builds(case: str, form: Any, tmp_path: Path) -> None:
    family, options, recipe = CASES[case]
    kept = trt.DataType.INT8 if "kv" in recipe else trt.DataType.HALF
    if "kv" in recipe and form.in_place:
        pytest.skip("TensorScatter takes no int8")
    tiny_folder(tmp_path / "checkpoint", family, **options)
    export(
        tmp_path / "checkpoint",
        tmp_path / "m.edge",
        engine="tensorrt",
        method="rtn",
        fidelity=False,
        **recipe,
    )
    spec = open_artifact(tmp_path / "m.edge").spec
    path = tmp_path / "m.edge/tensorrt" / f"{form.name}.onnx"
    model = with_capacity(onnx.load(path, load_external_data=False), CAPACITY)
    found = parsed(path, model)
    check_values(found, spec, CAPACITY, in_place=form.in_place, kv=kept)

    config = found.builder.create_builder_config()
    for tokens in (CHUNK, 1):
        config.add_optimization_profile(profile(found.builder, model, tokens))
    config.num_compute_capabilities = len(TARGETS)
    for i, target in enumerate(TARGETS):
        config.set_compute_capability(getattr(trt.ComputeCapability, target), i)
    plan = found.builder.build_serialized_network(found.network, config)
    assert plan is not None, log().lines
    assert plan.nbytes > 0
    assert log().lines == []


def profile(builder: Any, model: onnx.ModelProto, tokens: int) -> Any:
    """Shapes for up to `tokens` tokens at once."""
    profile, least, most = builder.create_optimization_profile(), 1, tokens
    free = {
        "tokens": (least, most),
        "positions": (least, most),
        "keys": (CAPACITY + least, CAPACITY + most),
    }
    for value in model.graph.input:
        dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        shortest, longest = ([free[d][end] if isinstance(d, str) else d for d in dims] for end in (0, 1))
        profile.set_shape(value.name, shortest, longest, longest)
    return profile
