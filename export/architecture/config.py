"""The part of a config.json that every family spells the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.artifact.spec import ModelSpec
from edge.errors import CheckpointCorrupt, Unsupported
from export.architecture.fields import Fields
from export.architecture.rope import MAX_CONTEXT, context_from_config, rope_from_config

MAX_LAYERS = 4096


def config_fields(config: Mapping[str, Any]) -> Fields:
    """A config.json to read from, refused where it asks for what no family does.

    Raises:
        Unsupported: its activation is not SiLU.
    """
    fields = Fields("config.json", config)
    activation = fields.text("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise Unsupported(f"config.json: hidden_act {activation!r:.80} is not supported, only 'silu'")
    return fields


def spec_from_fields(
    fields: Fields,
    architecture: str,
    *,
    default_kv_heads: int | None = None,
    default_head_dim: int | None = None,
    qkv_bias: bool = False,
    output_bias: bool = False,
    mlp_bias: bool = False,
    qk_norm: bool = False,
    windows: tuple[int, ...] = (),
) -> ModelSpec:
    """The ModelSpec of a config.json, given what its family adds.

    `default_kv_heads` and `default_head_dim` hold where the key is not there at all; a null one means as many
    key/value heads as query heads, and hidden_size ÷ heads.

    Raises:
        CheckpointCorrupt: a key is missing, of the wrong type or out of range.
        Unsupported: a RoPE scaling that Edgewise does not know.
    """
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    kv_default = heads if fields.is_null("num_key_value_heads") else default_kv_heads or heads
    kv_heads = fields.integer("num_key_value_heads", kv_default)
    if heads % kv_heads:
        raise CheckpointCorrupt(
            f"config.json: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}; "
            "get the checkpoint again from its publisher"
        )
    head_default = None if fields.is_null("head_dim") else default_head_dim
    if "head_dim" not in fields and head_default is None:
        if hidden % heads:
            raise CheckpointCorrupt(
                f"config.json: hidden_size {hidden} is not a multiple of num_attention_heads {heads} "
                "and there is no head_dim; get the checkpoint again from its publisher"
            )
        head_default = hidden // heads
    head_dim = fields.integer("head_dim", head_default)
    stated_context = fields.integer("max_position_embeddings", most=MAX_CONTEXT)
    rope = rope_from_config(fields, stated_context, head_dim)
    return ModelSpec(
        architecture=architecture,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden,
        intermediate_size=fields.integer("intermediate_size"),
        layers=layers_of(fields),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        context=context_from_config(fields, rope, stated_context),
        norm_eps=fields.number("rms_norm_eps"),
        rope=rope,
        tied=fields.flag("tie_word_embeddings", False),
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        mlp_bias=mlp_bias,
        qk_norm=qk_norm,
        windows=windows,
    )


def layers_of(fields: Fields) -> int:
    """`num_hidden_layers`, checked."""
    return fields.integer("num_hidden_layers", most=MAX_LAYERS)


def layer_types(fields: Fields) -> list[str] | None:
    """`layer_types`, checked against the number of layers; None where there are none.

    Raises:
        CheckpointCorrupt: not a list with an entry for each layer.
        Unsupported: an entry that is neither full nor sliding attention.
    """
    value = fields.raw("layer_types")
    if value is None:
        return None
    layers = layers_of(fields)
    if not isinstance(value, list) or len(value) != layers:
        raise fields.wrong("layer_types", value, f"a list of {layers} strings")
    for kind in value:
        if kind not in ("full_attention", "sliding_attention"):
            raise Unsupported(
                f"config.json: layer_types names {kind!r:.80}; only full and sliding attention are known"
            )
    return list(value)
