"""The tensors that a ModelSpec calls for."""

from __future__ import annotations

from edge.artifact.spec import ModelSpec


def expected_tensors(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Hugging Face name and shape in elements of every tensor, in the order a run uses them."""
    hidden, inner, head = spec.hidden_size, spec.intermediate_size, spec.head_dim
    q, kv = spec.heads * head, spec.kv_heads * head
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (spec.vocab_size, hidden)}

    def linear(name: str, rows: int, columns: int, bias: bool) -> None:
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)

    for layer in range(spec.layers):
        block = f"model.layers.{layer}"
        shapes[f"{block}.input_layernorm.weight"] = (hidden,)
        linear(f"{block}.self_attn.q_proj", q, hidden, spec.qkv_bias)
        linear(f"{block}.self_attn.k_proj", kv, hidden, spec.qkv_bias)
        linear(f"{block}.self_attn.v_proj", kv, hidden, spec.qkv_bias)
        if spec.qk_norm:
            shapes[f"{block}.self_attn.q_norm.weight"] = (head,)
            shapes[f"{block}.self_attn.k_norm.weight"] = (head,)
        linear(f"{block}.self_attn.o_proj", hidden, q, spec.output_bias)
        shapes[f"{block}.post_attention_layernorm.weight"] = (hidden,)
        linear(f"{block}.mlp.gate_proj", inner, hidden, spec.mlp_bias)
        linear(f"{block}.mlp.up_proj", inner, hidden, spec.mlp_bias)
        linear(f"{block}.mlp.down_proj", hidden, inner, spec.mlp_bias)
    shapes["model.norm.weight"] = (hidden,)
    if not spec.tied:
        shapes["lm_head.weight"] = (spec.vocab_size, hidden)
    return shapes
