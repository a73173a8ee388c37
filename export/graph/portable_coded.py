"""Attention of the portable dialect over a cache of 8-bit codes, with scales fixed at export.

Scales are those of `static_kv`, one for each number of each KV head. QuantizeLinear and DequantizeLinear have no such
scales, so theirs is 1: keys' own are multiplied into the queries, values' own into the sum, and the cache is read as
codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from edge.artifact import ModelSpec
from export.graph.builder import Value
from export.graph.graph import Graph
from export.graph.portable_form import Form
from export.graph.portable_primitive import PrimitiveAttention
from export.graph.portable_tables import RopeTables
from export.graph.static_kv import Largest, kv_scales
from export.graph.weight_store import WeightStore

_BITS = 8


@dataclass(frozen=True)
class _Scales:
    """Both float32 [1, kv_heads, 1, head_dim]."""

    keys: NDArray[np.float32]
    values: NDArray[np.float32]


class CodedAttention(PrimitiveAttention):
    """`largest` says how large keys and values get, a layer each."""

    _kept = TensorProto.INT8

    def __init__(
        self,
        spec: ModelSpec,
        weights: WeightStore,
        graph: Graph,
        form: Form,
        tables: RopeTables,
        largest: Sequence[Largest],
    ) -> None:
        super().__init__(spec, weights, graph, form, tables)
        self._scales = [
            _Scales(*(kv_scales(x, _BITS)[None, :, None] for x in (each.keys, each.values)))
            for each in largest
        ]

    def _query_factor(self, layer: int) -> Value:
        factor = self._scales[layer].keys * np.float32(self._spec.head_dim**-0.5)
        return self._constant(f"layers.{layer}.query_factor", factor)

    def _keys(self, layer: int, k: Value, prefix: str) -> tuple[Value, Value]:
        return self._numbers(layer, "key", k, self._scales[layer].keys, TensorProto.FLOAT)

    def _values(self, layer: int, v: Value, prefix: str) -> tuple[Value, Value]:
        return self._numbers(layer, "value", v, self._scales[layer].values, TensorProto.FLOAT16)

    def _as_values(self, layer: int, mixed: Value) -> Value:
        graph, scales = self._graph, self._scales[layer].values
        wide = graph.node("Cast", [mixed], f"{mixed}.wide", to=TensorProto.FLOAT)
        # A scale may be smaller than float16 has bits for.
        scaled = graph.node(
            "Mul", [wide, self._constant(f"layers.{layer}.v_scale", scales)], f"{mixed}.scaled"
        )
        return graph.node("Cast", [scaled], f"{mixed}.values", to=TensorProto.FLOAT16)

    def _numbers(
        self, layer: int, kind: str, x: Value, scales: NDArray[np.float32], dtype: int
    ) -> tuple[Value, Value]:
        """Codes of the cache and of x as numbers; those of x go out as they are."""
        graph = self._graph
        wide = graph.node("Cast", [x], f"{x}.wide", to=TensorProto.FLOAT)
        inverse = self._constant(f"layers.{layer}.{kind}_inverse", np.float32(1) / scales)
        steps = graph.node("Mul", [wide, inverse], f"{x}.steps")
        one = graph.number("one", 1.0)
        new = graph.node(
            "QuantizeLinear", [steps, one], self._goes_out(layer, kind), output_dtype=TensorProto.INT8
        )
        unit = one if dtype == TensorProto.FLOAT else graph.half("one.float16", 1.0)
        past, coded = (
            graph.node("DequantizeLinear", [codes, unit], f"{codes}.codes")
            for codes in (self._past(layer, kind), new)
        )
        return past, coded

    def _constant(self, name: str, values: NDArray[np.float32]) -> Value:
        return self._graph.initializer(name, self._weights.constant(values))
