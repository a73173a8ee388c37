"""Attention of the portable dialect over a cache of 8-bit codes, with scales fixed at export.

Scales are those of `static_kv`, one for each number of each KV head. QuantizeLinear and DequantizeLinear have no such
scales, so theirs is 1: keys' own are multiplied into the queries, values' own into the sum, and products are of the
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

    def _loud(self, layer: int) -> bool:
        # Codes round keys off by more than float16 does their scores.
        return False

    def _queries(self, layer: int, q: Value) -> Value:
        graph, factor = self._graph, self._scales[layer].keys * np.float32(self._power)
        wide = graph.node("Cast", [q], f"{q}.wide", to=TensorProto.FLOAT)
        scaled = graph.node(
            "Mul", [wide, self._constant(f"layers.{layer}.query_factor", factor)], f"{q}.multiplied"
        )
        return graph.node("Cast", [scaled], f"{q}.scaled", to=TensorProto.FLOAT16)

    def _keys(self, layer: int, k: Value) -> tuple[Value, Value]:
        return self._numbers(layer, "key", k, self._scales[layer].keys)

    def _values(self, layer: int, v: Value) -> tuple[Value, Value]:
        return self._numbers(layer, "value", v, self._scales[layer].values)

    def _as_values(self, layer: int, mixed: Value) -> Value:
        graph, scales = self._graph, self._scales[layer].values
        wide = graph.node("Cast", [mixed], f"{mixed}.wide", to=TensorProto.FLOAT)
        # A scale may be smaller than float16 has bits for.
        scaled = graph.node(
            "Mul", [wide, self._constant(f"layers.{layer}.v_scale", scales)], f"{mixed}.scaled"
        )
        return graph.node("Cast", [scaled], f"{mixed}.values", to=TensorProto.FLOAT16)

    def _numbers(self, layer: int, kind: str, x: Value, scales: NDArray[np.float32]) -> tuple[Value, Value]:
        """Codes of the cache and of x as float16; those of x go out as they are."""
        graph = self._graph
        wide = graph.node("Cast", [x], f"{x}.wide", to=TensorProto.FLOAT)
        inverse = self._constant(f"layers.{layer}.{kind}_inverse", np.float32(1) / scales)
        steps = graph.node("Mul", [wide, inverse], f"{x}.steps")
        new = graph.node(
            "QuantizeLinear",
            [steps, graph.number("one", 1.0)],
            self._goes_out(layer, kind),
            output_dtype=TensorProto.INT8,
        )
        unit = graph.half("one.float16", 1.0)
        past, coded = (
            graph.node("DequantizeLinear", [codes, unit], f"{codes}.codes")
            for codes in (self._past(layer, kind), new)
        )
        return past, coded

    def _constant(self, name: str, values: NDArray[np.float32]) -> Value:
        return self._graph.initializer(name, self._weights.constant(values))
