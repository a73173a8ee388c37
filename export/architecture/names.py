"""Names of tensors: Hugging Face's, which the rest of the exporter speaks, and GGUF's."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"blk\.(\d{1,6})\.([a-z_]+)\.(weight|bias)")

_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def hugging_face_name(gguf_name: str) -> str | None:
    """The Hugging Face name of a GGUF tensor, None for one that no family has."""
    if gguf_name in _WHOLE:
        return _WHOLE[gguf_name]
    match = _BLOCK.fullmatch(gguf_name)
    if match is None or match[2] not in _PARTS:
        return None
    return f"model.layers.{int(match[1])}.{_PARTS[match[2]]}.{match[3]}"


def gguf_name(hugging_face_name: str) -> str | None:
    """The inverse of `hugging_face_name`."""
    for short, long in _WHOLE.items():
        if long == hugging_face_name:
            return short
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", hugging_face_name)
    for short, long in _PARTS.items():
        if match is not None and long == match[2]:
            return f"blk.{match[1]}.{short}.{match[3]}"
    return None


def is_buffer(hugging_face_name: str) -> bool:
    """Whether an older checkpoint stores here what follows from its configuration."""
    return hugging_face_name.endswith("rotary_emb.inv_freq")
