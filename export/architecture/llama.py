"""llama: Llama 2 and 3, Mistral, SmolLM2, DeepSeek-R1-Distill-Llama."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.artifact.spec import ModelSpec
from edge.errors import Unsupported
from export.architecture.config import config_fields, layer_types, layers_of, spec_from_fields
from export.architecture.family import Family, Tensor
from export.architecture.fields import Fields
from export.architecture.metadata import spec_from_metadata

MISTRAL_KV_HEADS = 8
MISTRAL_WINDOW = 4096


def spec_from_config(config: Mapping[str, Any]) -> ModelSpec:
    """The ModelSpec of a `llama` or `mistral` config.json; errors as `Family` says."""
    fields = config_fields(config)
    if fields.text("model_type") == "mistral":
        return spec_from_fields(
            fields, "llama", default_kv_heads=MISTRAL_KV_HEADS, windows=_mistral_windows(fields)
        )
    if "sliding_attention" in (layer_types(fields) or ()):
        raise Unsupported("config.json: layer_types has sliding_attention, which a llama does not know")
    bias = fields.flag("attention_bias", False)
    return spec_from_fields(
        fields, "llama", qkv_bias=bias, output_bias=bias, mlp_bias=fields.flag("mlp_bias", False)
    )


def spec_from_gguf(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ModelSpec:
    """The ModelSpec of a `llama` GGUF; errors as `Family` says."""
    return spec_from_metadata(metadata, tensors, "llama", windows_everywhere=True)


def _mistral_windows(fields: Fields) -> tuple[int, ...]:
    layers, kinds = layers_of(fields), layer_types(fields)
    # A null window is full attention; an absent one is the first Mistral's.
    window = 0 if fields.is_null("sliding_window") else fields.integer("sliding_window", MISTRAL_WINDOW)
    if kinds is not None and set(kinds) != {"sliding_attention" if window else "full_attention"}:
        raise Unsupported(
            "config.json: layer_types mixes full and sliding attention, which a mistral does not know"
        )
    return (window,) * layers if window else ()


FAMILY = Family(
    name="llama",
    model_types=("llama", "mistral"),
    gguf_architectures=("llama",),
    spec_from_config=spec_from_config,
    spec_from_gguf=spec_from_gguf,
    interleaved=True,
)
