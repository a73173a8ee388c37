"""Rope from a checkpoint: every spelling of RoPE scaling, resolved into numbers.

`attention_factor` is the whole factor of cos and sin. `attn_factor`, as DeepSeek-R1-0528-Qwen3 has it,
multiplies what YaRN derives from `factor` (they cancel there), as in vLLM; transformers ignores that key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edge.artifact.spec import Rope
from edge.errors import CheckpointCorrupt, Unsupported
from export.architecture.family import Tensor
from export.architecture.fields import Fields

DEFAULT_THETA = 10000.0
MAX_CONTEXT = 1 << 24
KINDS = ("default", "linear", "dynamic", "llama3", "yarn")


def rope_from_config(config: Fields, context: int, head_dim: int) -> Rope:
    """RoPE of a config.json, from `rope_parameters` or from `rope_theta` and `rope_scaling`.

    Raises:
        CheckpointCorrupt: a value is missing, of the wrong type or out of range.
        Unsupported: a kind of scaling that Edgewise does not know, or RoPE on a part of the head only.
    """
    if head_dim % 2:
        raise CheckpointCorrupt(f"{config.source}: head_dim is {head_dim}, RoPE needs an even one")
    scaling = config.inner("rope_scaling") or config.inner("rope_parameters") or Fields(config.source, {})
    if any(isinstance(scaling.raw(key), dict) for key in ("full_attention", "sliding_attention")):
        raise Unsupported(
            f"{scaling.source} differs by layer, which Edgewise does not know; use another checkpoint"
        )
    for fields in (scaling, config):
        if fields.number("partial_rotary_factor", 1.0) != 1.0:
            raise Unsupported(
                f"{fields.source}: partial_rotary_factor is {fields.raw('partial_rotary_factor')}, "
                "and only 1.0 is supported; use another checkpoint"
            )
    theta = scaling.number("rope_theta", config.number("rope_theta", DEFAULT_THETA), least=1.0)
    kind = scaling.text("rope_type", scaling.text("type", "default"))
    original = config if "original_max_position_embeddings" in config else scaling
    original_context = original.integer("original_max_position_embeddings", context)
    if kind == "default":
        return Rope(theta=theta)
    if kind == "linear":
        return Rope(theta=theta, kind="linear", factor=_factor(scaling))
    if kind == "dynamic":
        _needs_pairs(scaling, head_dim)
        return Rope(theta=theta, kind="dynamic", factor=_factor(scaling), original_context=context)
    if kind == "llama3":
        low, high = scaling.number("low_freq_factor"), scaling.number("high_freq_factor")
        if high <= low:
            raise scaling.wrong("high_freq_factor", high, f"a number above low_freq_factor, which is {low:g}")
        return Rope(
            theta=theta,
            kind="llama3",
            factor=_factor(scaling),
            original_context=original_context,
            low_freq_factor=low,
            high_freq_factor=high,
        )
    if kind == "yarn":
        factor = _factor(scaling, context / original_context)
        return Rope(
            theta=theta,
            kind="yarn",
            factor=factor,
            original_context=original_context,
            beta_fast=scaling.number("beta_fast", 32.0, above=False) or 32.0,
            beta_slow=scaling.number("beta_slow", 1.0, above=False) or 1.0,
            truncate=scaling.flag("truncate", True),
            attention_factor=_attention_factor(scaling, factor),
        )
    raise Unsupported(
        f"{scaling.source}: RoPE scaling {kind!r:.80} is not known; "
        f"choose a checkpoint with one of {', '.join(KINDS)}"
    )


def context_from_config(config: Fields, rope: Rope, context: int) -> int:
    """Tokens the model can hold: what the config states, or more where the scaling stretches that.

    `dynamic` stretches `max_position_embeddings`; YaRN configs may state the length before stretching.
    """
    stretched = context
    if rope.kind == "dynamic":
        stretched = int(context * rope.factor)
    elif rope.kind == "yarn":
        scaling = config.inner("rope_scaling") or config.inner("rope_parameters")
        if scaling is not None and "original_max_position_embeddings" in scaling:
            stretched = max(context, int(rope.original_context * rope.factor))
    if stretched > MAX_CONTEXT:
        raise config.wrong("max_position_embeddings", context, f"at most {MAX_CONTEXT} with the RoPE factor")
    return stretched


def rope_from_gguf(metadata: Fields, tensors: Mapping[str, Tensor], context: int, head_dim: int) -> Rope:
    """RoPE of a GGUF, from `rope.*` and the tensor `rope_freqs.weight`.

    Raises:
        CheckpointCorrupt: a value is missing, of the wrong type or out of range.
        Unsupported: a kind of scaling that Edgewise does not know, or RoPE on a part of the head only.
    """
    if head_dim % 2:
        raise CheckpointCorrupt(f"{metadata.source}: the head size is {head_dim}, RoPE needs an even one")
    rotated = metadata.integer("rope.dimension_count", head_dim)
    if rotated != head_dim:
        raise Unsupported(
            f"{metadata.source}: rope.dimension_count is {rotated} of a head of {head_dim}; "
            "only whole heads are supported"
        )
    theta = metadata.number("rope.freq_base", DEFAULT_THETA, least=1.0)
    # The older key is named after its only kind; a factor of 0 means none.
    older = metadata.number("rope.scale_linear", 0.0, above=False)
    factor = metadata.number("rope.scaling.factor", older, above=False) or 1.0
    kind = metadata.text("rope.scaling.type", "linear")
    multiplier = metadata.number("rope.scaling.attn_factor", 1.0)
    if kind == "yarn":
        return _yarn_from_gguf(metadata, theta, factor, context, multiplier)
    if kind not in ("none", "linear"):
        raise Unsupported(
            f"{metadata.source}: rope.scaling.type {kind!r:.80} is not known; "
            "choose a checkpoint with none, linear or yarn"
        )
    if multiplier != 1.0:
        raise Unsupported(
            f"{metadata.source}: rope.scaling.attn_factor {multiplier} without YaRN is not supported"
        )
    if kind == "none":
        factor = 1.0
    divisors = tensors.get("rope_freqs.weight")
    if divisors is not None:
        return _factors(metadata, divisors, theta, factor, head_dim)
    return Rope(theta=theta) if factor == 1.0 else Rope(theta=theta, kind="linear", factor=factor)


def _factor(scaling: Fields, default: float | None = None) -> float:
    return scaling.number("factor") if default is None else scaling.number("factor", default)


def _needs_pairs(scaling: Fields, head_dim: int) -> None:
    if head_dim < 4:
        raise Unsupported(
            f"{scaling.source}: dynamic RoPE needs a head_dim of at least 4, this one is {head_dim}"
        )


def magnitude(factor: float, mscale: float = 1.0) -> float:
    """The factor of cos and sin that YaRN proposes for a context stretched by `factor`."""
    return 1.0 if factor <= 1.0 else 0.1 * mscale * math.log(factor) + 1.0


def _attention_factor(scaling: Fields, factor: float) -> float:
    if "attention_factor" in scaling:
        return scaling.number("attention_factor")
    mscale, all_dim = (
        scaling.number("mscale", 0.0, above=False),
        scaling.number("mscale_all_dim", 0.0, above=False),
    )
    derived = (
        magnitude(factor, mscale) / magnitude(factor, all_dim) if mscale and all_dim else magnitude(factor)
    )
    return derived * scaling.number("attn_factor", 1.0)


def _yarn_from_gguf(metadata: Fields, theta: float, factor: float, context: int, multiplier: float) -> Rope:
    if metadata.number("rope.scaling.yarn_ext_factor", 1.0, above=False) != 1.0:
        raise Unsupported(
            f"{metadata.source}: rope.scaling.yarn_ext_factor {metadata.raw('rope.scaling.yarn_ext_factor')} "
            "is not supported, only 1.0"
        )
    derived = magnitude(factor)
    all_dim = metadata.number("rope.scaling.yarn_log_multiplier", 0.0, above=False)
    if all_dim:
        derived /= magnitude(factor, all_dim)
    whole = derived
    if "rope.scaling.yarn_attn_factor" in metadata:
        # Converters put `attention_factor` (the whole) or `attn_factor` here: no whole is below 1.
        stored = metadata.number("rope.scaling.yarn_attn_factor")
        whole = stored if stored >= 1.0 else derived * stored
    return Rope(
        theta=theta,
        kind="yarn",
        factor=factor,
        original_context=metadata.integer("rope.scaling.original_context_length", context),
        beta_fast=metadata.number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=metadata.number("rope.scaling.yarn_beta_slow", 1.0),
        attention_factor=whole * multiplier,
    )


def _factors(metadata: Fields, divisors: Tensor, theta: float, factor: float, head_dim: int) -> Rope:
    if divisors.shape != (head_dim // 2,):
        raise CheckpointCorrupt(
            f"{metadata.source}: rope_freqs.weight has shape {divisors.shape}, expected ({head_dim // 2},)"
        )
    values = divisors.read().astype(np.float64) * factor
    if not np.isfinite(values).all() or (values <= 0).any():
        raise CheckpointCorrupt(
            f"{metadata.source}: rope_freqs.weight holds a number that is not finite and above 0"
        )
    return Rope(theta=theta, kind="factors", factors=tuple(float(v) for v in values))
