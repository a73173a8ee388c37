"""qwen2: Qwen2, Qwen2.5, DeepSeek-R1-Distill-Qwen. Biases on q, k and v, always."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edge.artifact.spec import ModelSpec
from export.architecture.config import config_fields, spec_from_fields
from export.architecture.family import Family, Tensor
from export.architecture.metadata import spec_from_metadata
from export.architecture.window import windows_by_layer

DEFAULT_KV_HEADS = 32


def spec_from_config(config: Mapping[str, Any]) -> ModelSpec:
    """The ModelSpec of a `qwen2` config.json; errors as `Family` says."""
    fields = config_fields(config)
    return spec_from_fields(
        fields, "qwen2", default_kv_heads=DEFAULT_KV_HEADS, qkv_bias=True, windows=windows_by_layer(fields)
    )


def spec_from_gguf(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ModelSpec:
    """The ModelSpec of a `qwen2` GGUF; errors as `Family` says."""
    return replace(spec_from_metadata(metadata, tensors, "qwen2"), qkv_bias=True)


FAMILY = Family(
    name="qwen2",
    model_types=("qwen2",),
    gguf_architectures=("qwen2",),
    spec_from_config=spec_from_config,
    spec_from_gguf=spec_from_gguf,
)
