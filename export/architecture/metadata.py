"""The part of a GGUF's metadata that every family spells the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.artifact.spec import ModelSpec
from edge.errors import CheckpointCorrupt, TensorError, Unsupported
from export.architecture.config import MAX_LAYERS
from export.architecture.family import Tensor
from export.architecture.fields import Fields
from export.architecture.rope import MAX_CONTEXT, rope_from_gguf
from export.architecture.window import windows_from_gguf

_BIASED = {
    "qkv_bias": ("attn_q", "attn_k", "attn_v"),
    "output_bias": ("attn_output",),
    "mlp_bias": ("ffn_gate", "ffn_up", "ffn_down"),
}
# Multipliers that a few models store under these architectures; none of the families has them.
_SCALES = ("attention.scale", "embedding_scale", "logit_scale", "residual_scale")


def spec_from_metadata(
    metadata: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    architecture: str,
    *,
    qk_norm: bool = False,
    windows_everywhere: bool = False,
) -> ModelSpec:
    """The ModelSpec of a GGUF: sizes from its metadata, the vocabulary, biases and tying from its tensors.

    Raises:
        CheckpointCorrupt: a key is missing, of the wrong type or out of range.
        TensorError: there is no embedding.
        Unsupported: a RoPE scaling, a kind of head or of window that Edgewise does not know.
    """
    fields = Fields("GGUF metadata", metadata, prefix=f"{metadata['general.architecture']}.")
    hidden = fields.integer("embedding_length")
    heads = fields.integer("attention.head_count")
    kv_heads = fields.integer("attention.head_count_kv", heads)
    if heads % kv_heads:
        raise CheckpointCorrupt(
            f"GGUF metadata: attention.head_count {heads} is not a multiple of attention.head_count_kv "
            f"{kv_heads}; get the file again from its publisher"
        )
    head_dim = _head_dim(fields, hidden, heads)
    if "expert_count" in fields and fields.integer("expert_count", least=0):
        raise Unsupported(
            f"GGUF metadata: {fields.prefix}expert_count: a mixture of experts is not supported"
        )
    for key in _SCALES:
        if key in fields and fields.number(key, above=False) not in (0.0, 1.0):
            raise Unsupported(
                f"GGUF metadata: {fields.prefix}{key} {fields.raw(key)} is not supported, only 1"
            )
    layers = fields.integer("block_count", most=MAX_LAYERS)
    context = fields.integer("context_length", most=MAX_CONTEXT)
    return ModelSpec(
        architecture=architecture,
        vocab_size=_vocabulary(tensors),
        hidden_size=hidden,
        intermediate_size=fields.integer("feed_forward_length"),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        context=context,
        norm_eps=fields.number("attention.layer_norm_rms_epsilon"),
        rope=rope_from_gguf(fields, tensors, context, head_dim),
        tied="output.weight" not in tensors,
        qk_norm=qk_norm,
        windows=windows_from_gguf(fields, layers, everywhere=windows_everywhere),
        **{flag: _biased(tensors, parts) for flag, parts in _BIASED.items()},
    )


def _head_dim(fields: Fields, hidden: int, heads: int) -> int:
    key, value = "attention.key_length", "attention.value_length"
    if key not in fields and hidden % heads:
        raise CheckpointCorrupt(
            f"GGUF metadata: embedding_length {hidden} is not a multiple of attention.head_count {heads} "
            f"and there is no {key}; get the file again from its publisher"
        )
    head_dim = fields.integer(key, hidden // heads)
    if fields.integer(value, head_dim) != head_dim:
        raise Unsupported(f"GGUF metadata: {value} {fields.raw(value)} differs from the {head_dim} of keys")
    return head_dim


def _vocabulary(tensors: Mapping[str, Tensor]) -> int:
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise TensorError("tensor token_embd.weight is missing; the GGUF is incomplete, get it again")
    if len(embedding.shape) != 2:
        raise TensorError(
            f"tensor token_embd.weight has shape {embedding.shape}, expected (vocabulary, hidden)"
        )
    return embedding.shape[0]


def _biased(tensors: Mapping[str, Tensor], parts: tuple[str, ...]) -> bool:
    return any(f"blk.0.{part}.bias" in tensors for part in parts)
