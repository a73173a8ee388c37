"""AWQ's factors taken into a layer: matrices are multiplied by them, and what feeds these is divided."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from edge.artifact import ModelSpec
from export.quantize import Inputs, Recipe
from export.quantize.awq import input_factors
from export.quantize.method import Rows


def fold(
    spec: ModelSpec,
    layer: int,
    arrays: dict[str, Rows],
    seen: Mapping[str, Inputs],
    recipe: Recipe,
    kept: Collection[str] = (),
) -> set[str]:
    """Change the arrays of a layer in place, so that it computes the same; the names of those that were divided.

    `seen` are the inputs of the layer's matrices before, by the names of `matrices`; `kept` the arrays that stay.
    """
    prefix = f"model.layers.{layer}"
    attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
    group = spec.heads // spec.kv_heads
    changed: set[str] = set()
    # What is fed, by what, and how often each row of that is read.
    for names, feeder, repeats in (
        ([f"{attention}.{name}_proj" for name in "qkv"], f"{prefix}.input_layernorm", 1),
        ([f"{attention}.o_proj"], f"{attention}.v_proj", group),
        ([f"{mlp}.gate_proj", f"{mlp}.up_proj"], f"{prefix}.post_attention_layernorm", 1),
        ([f"{mlp}.down_proj"], f"{mlp}.up_proj", 1),
    ):
        if not {f"{name}.weight" for name in (*names, feeder)}.isdisjoint(kept):
            continue
        groups = spec.kv_heads if repeats > 1 else 1
        factors = input_factors(
            [arrays[f"{name}.weight"] for name in names],
            seen["+".join(names)],
            recipe.of(names[0]),
            groups,
            repeats,
        )
        if factors is None:
            continue
        for name in names:
            arrays[f"{name}.weight"] = arrays[f"{name}.weight"] * factors
        once = factors.reshape(groups, repeats, -1)[:, 0].ravel()
        for kind in ("weight", "bias"):
            if f"{feeder}.{kind}" in arrays:
                value = arrays[f"{feeder}.{kind}"]
                arrays[f"{feeder}.{kind}"] = np.asarray((value.T / once).T, np.float32)
                changed.add(f"{feeder}.{kind}")
    return changed
