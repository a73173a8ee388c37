"""The decoder that the llama, qwen2 and qwen3 families share, told to a builder once for every dialect."""

from __future__ import annotations

from edge.artifact import ModelSpec
from export.graph.builder import Builder, Value


def describe(spec: ModelSpec, b: Builder) -> None:
    """Build the whole decoder of `spec`, with its options: biases, q and k norms, windows, RoPE."""
    stream, update = b.embed("model.embed_tokens"), None
    for layer in range(spec.layers):
        stream, update = describe_layer(spec, b, layer, stream, update)
    assert update is not None
    b.head(stream, update, "model.norm", head_name(spec))


def describe_layer(
    spec: ModelSpec, b: Builder, layer: int, stream: Value, update: Value | None
) -> tuple[Value, Value]:
    """Build one layer on the sum of `stream` and `update`; the two that its output is the sum of.

    The last layer goes on with the tokens that logits are asked for.
    """
    prefix = f"model.layers.{layer}"
    attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"

    normed, stream = b.norm(stream, update, f"{prefix}.input_layernorm")
    qkv = b.linear(normed, [f"{attention}.{name}_proj" for name in "qkv"], bias=spec.qkv_bias)
    mixed = b.attention(layer, qkv, attention)
    if layer == spec.layers - 1:
        # Behind the last attention no token reads another.
        mixed, stream = b.wanted(mixed), b.wanted(stream)
    update = b.linear(mixed, [f"{attention}.o_proj"], bias=spec.output_bias)

    normed, stream = b.norm(stream, update, f"{prefix}.post_attention_layernorm")
    gate_up = b.linear(normed, [f"{mlp}.gate_proj", f"{mlp}.up_proj"], bias=spec.mlp_bias)
    return stream, b.linear(b.gate(gate_up), [f"{mlp}.down_proj"], bias=spec.mlp_bias)


def head_name(spec: ModelSpec) -> str:
    """The matrix of the LM head."""
    return "model.embed_tokens" if spec.tied else "lm_head"
