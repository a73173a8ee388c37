"""qwen3: Qwen3, DeepSeek-R1-0528-Qwen3. An RMS norm on every head of q and k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.artifact.spec import ModelSpec
from export.architecture.config import config_fields, spec_from_fields
from export.architecture.family import Family, Tensor
from export.architecture.metadata import spec_from_metadata
from export.architecture.window import windows_by_layer

DEFAULT_KV_HEADS = 32
DEFAULT_HEAD_DIM = 128


def spec_from_config(config: Mapping[str, Any]) -> ModelSpec:
    """The ModelSpec of a `qwen3` config.json; errors as `Family` says."""
    fields = config_fields(config)
    bias = fields.flag("attention_bias", False)
    return spec_from_fields(
        fields,
        "qwen3",
        default_kv_heads=DEFAULT_KV_HEADS,
        default_head_dim=DEFAULT_HEAD_DIM,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=True,
        windows=windows_by_layer(fields),
    )


def spec_from_gguf(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ModelSpec:
    """The ModelSpec of a `qwen3` GGUF; errors as `Family` says."""
    return spec_from_metadata(metadata, tensors, "qwen3", qk_norm=True)


FAMILY = Family(
    name="qwen3",
    model_types=("qwen3",),
    gguf_architectures=("qwen3",),
    spec_from_config=spec_from_config,
    spec_from_gguf=spec_from_gguf,
)
