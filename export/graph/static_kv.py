"""KV in 8 or 4 bits with scales fixed at export, for GroupQueryAttention: a pass over a graph that keeps float32.

Keys (after RoPE, as the cache holds them) and values become codes round(x / scale), cut off at the ends of their range,
with a scale for each number of each KV head. 4-bit codes lie two in a byte, the first in the low half, each plus 8.
Attention reads what the cache holds, for a token just written as for an old one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.artifact.kv import STATIC_KV_BITS, static_kv_width

# Earlier ones have the operator's attributes and fail when they run it.
OLDEST_FOR_STATIC_KV = "1.27.0"
# Inputs of GroupQueryAttention, by their place.
_PAST_KEY, _K_SCALE = 3, 12


@dataclass(frozen=True)
class Largest:
    """How large a layer's keys and its values get, both float32 [kv_heads, head_dim]."""

    keys: NDArray[np.float32]
    values: NDArray[np.float32]


def quantize_kv(model: onnx.ModelProto, layers: Sequence[Largest], kind: str) -> None:
    """Let the attention of each layer keep codes of `kind`, int8 or int4, instead of float32 in past and present.

    `model` is changed; afterwards it needs an ONNX Runtime of OLDEST_FOR_STATIC_KV.
    """
    graph, bits = model.graph, STATIC_KV_BITS[kind]
    attention = {n.input[_PAST_KEY]: n for n in graph.node if n.op_type == "GroupQueryAttention"}
    assert len(attention) == len(layers)
    for i, largest in enumerate(layers):
        node = attention[f"past.{i}.key"]
        assert len(node.input) <= _K_SCALE, f"{node.name} has scales already"
        names = [f"layers.{i}.{kind}_scale" for kind in "kv"]
        node.input.extend([""] * (_K_SCALE - len(node.input)) + names)
        for key in ("k_quant_type", "v_quant_type"):
            node.attribute.append(helper.make_attribute(key, "PER_CHANNEL"))
        node.attribute.append(helper.make_attribute("kv_cache_bit_width", bits))
        for name, magnitudes in zip(names, (largest.keys, largest.values), strict=True):
            # [1, kv_heads, 1, head_dim], which spreads over a cache; small enough to lie in the graph itself.
            graph.initializer.append(
                numpy_helper.from_array(kv_scales(magnitudes, bits)[None, :, None], name)
            )
    for info in (*graph.input, *graph.output):
        if info.name.startswith(("past.", "present.")):
            info.type.tensor_type.elem_type = TensorProto.INT8 if bits == 8 else TensorProto.UINT8
            width = info.type.tensor_type.shape.dim[-1]
            width.dim_value = static_kv_width(kind, width.dim_value)


def kv_scales(magnitudes: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Scales of codes of `bits` bits: the largest number has the largest code.

    What was 0 all the time gets the scale of the layer's largest number: no guess, but nothing to divide by 0.
    """
    rest = magnitudes.max() or np.float32(1)
    return (np.where(magnitudes > 0, magnitudes, rest) / np.float32((1 << (bits - 1)) - 1)).astype(np.float32)
