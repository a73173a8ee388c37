"""Attention of the portable dialect in operators of opset 21."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from export.graph.builder import Value
from export.graph.portable_attention import PortableAttention

# Further below any score than exp can tell, in float32.
_LEAST = -1e30
# Root mean square of a head's bias of keys from which scores are float32. Qwen2.5-0.5B has 4.9 to 40 in six layers,
# where float16 scores alter what attention gives by 1 to 20%, and up to 2 in the others.
_LOUD = 4.0
_PARTS = ("past", "new")


class PrimitiveAttention(PortableAttention):
    """Products with the cache and with the new tokens, side by side in one softmax.

    So the cache is read where it is: behind Concat it would be copied for every token, and as the right factor of a
    product TensorRT turns it first. Queries that share a KV head are columns of one product, so that it is read once.
    Where a bias adds a large number to all scores of a query, float16 has no bits left for what tells them apart: there
    the product is float32, though TensorRT widens the cache for it. TF32 loses nothing of factors that are float16.
    """

    def _mixed(self, layer: int, q: Value, k: Value, v: Value, prefix: str) -> Value:
        spec, graph = self._spec, self._graph
        folded = graph.node(
            "Reshape", [q, graph.ints("folded", [1, spec.kv_heads, -1, spec.head_dim])], f"{prefix}.folded"
        )
        queries = self._queries(layer, folded)
        keys, values = self._keys(layer, k), self._values(layer, v)
        if self._loud(layer):
            queries, *wide = (
                graph.node("Cast", [x], f"{x}.wide", to=TensorProto.FLOAT) for x in (queries, *keys)
            )
            keys = (wide[0], wide[1])
        columns = graph.node("Transpose", [queries], f"{prefix}.columns", perm=[0, 1, 3, 2])
        scores = [
            self._scores(x, columns, f"{prefix}.scores.{part}") for part, x in zip(_PARTS, keys, strict=True)
        ]
        beside = graph.node("Concat", scores, f"{prefix}.scores", axis=-1)
        if (rest := self._spec.head_dim**-0.5 / self._power) != 1:
            beside = graph.node("Mul", [beside, graph.number("scale", rest)], f"{beside}.scaled")
        seen = graph.node(
            "Where", [self._folded_mask(layer), beside, graph.number("unseen", _LEAST)], f"{prefix}.seen"
        )
        weights = graph.node("Softmax", [seen], f"{prefix}.softmax", axis=-1)
        half = graph.node("Cast", [weights], f"{prefix}.weights", to=TensorProto.FLOAT16)
        capacity, end = self._capacity(), graph.ints("end", [(1 << 63) - 1])
        start, axis = graph.ints("start", [0]), graph.ints("last", [-1])
        of_past = graph.node("Slice", [half, start, capacity, axis], f"{half}.past")
        of_new = graph.node("Slice", [half, capacity, end, axis], f"{half}.new")
        sums = [
            graph.node("MatMul", [share, x], f"{prefix}.sum.{part}")
            for part, share, x in zip(_PARTS, (of_past, of_new), values, strict=True)
        ]
        mixed = self._as_values(layer, graph.node("Add", sums, f"{prefix}.sum"))
        return graph.node(
            "Reshape", [mixed, graph.ints("unfolded", [1, spec.heads, -1, spec.head_dim])], f"{prefix}.mixed"
        )

    def _loud(self, layer: int) -> bool:
        """Whether the bias of keys adds to scores what leaves float16 too few bits."""
        if not self._spec.qkv_bias:
            return False
        bias = self._weights.values(f"model.layers.{layer}.self_attn.k_proj.bias")
        heads = bias.reshape(self._spec.kv_heads, -1)
        return bool((np.square(heads).mean(axis=1) > _LOUD**2).any())

    @property
    def _power(self) -> float:
        """The power of two below 1 / sqrt(head_dim): what is multiplied by it keeps its bits."""
        return float(2.0 ** math.floor(-math.log2(self._spec.head_dim) / 2))

    def _queries(self, layer: int, q: Value) -> Value:
        """What `_keys` are multiplied with, float16; `_power` is in it, so that scores stay small."""
        return self._graph.node("Mul", [q, self._graph.half("power", self._power)], f"{q}.scaled")

    def _keys(self, layer: int, k: Value) -> tuple[Value, Value]:
        """Keys of the cache and of the new tokens, both float16; the new ones go out."""
        return self._past(layer, "key"), self._new(layer, "key", k)

    def _values(self, layer: int, v: Value) -> tuple[Value, Value]:
        """Values of the cache and of the new tokens, both float16; the new ones go out."""
        return self._past(layer, "value"), self._new(layer, "value", v)

    def _as_values(self, layer: int, mixed: Value) -> Value:
        """What the weighted sum of `_values` stands for, float16."""
        return mixed

    def _new(self, layer: int, kind: str, x: Value) -> Value:
        self._graph.node("Identity", [x], self._goes_out(layer, kind))
        return x

    def _goes_out(self, layer: int, kind: str) -> Value:
        return self._graph.output(f"new.{layer}.{kind}", self._rows("tokens"), self._kept)

    def _turned(self, x: Value) -> Value:
        graph, half = self._graph, self._spec.head_dim // 2
        cos, sin = (self._at_positions(table) for table in (self._cos, self._sin))
        first, second = f"{x}.first", f"{x}.second"
        graph.nodes(
            "Split", [x, graph.ints("halves", [half, half])], [first, second], name=f"{x}.split", axis=-1
        )
        products = {
            f"{a}{b}": graph.node("Mul", [part, table], f"{x}.{a}.{b}")
            for a, part in (("1", first), ("2", second))
            for b, table in (("c", cos), ("s", sin))
        }
        ends = [
            graph.node("Sub", [products["1c"], products["2s"]], f"{x}.1"),
            graph.node("Add", [products["2c"], products["1s"]], f"{x}.2"),
        ]
        return graph.node("Concat", ends, f"{x}.turned", axis=-1)

    def _at_positions(self, table: Value) -> Value:
        """Rows of a table for the tokens, [1, 1, tokens, head_dim / 2]; the layers share them."""
        graph, rows = self._graph, f"{table}.rows"
        if graph.first(rows):
            gathered = graph.node("Gather", [table, self._positions], f"{table}.gathered", axis=0)
            graph.node("Unsqueeze", [gathered, graph.ints("heads_axis", [1])], rows)
        return rows

    def _scores(self, keys: Value, columns: Value, output: Value) -> Value:
        """Scores float32, a row for each query."""
        graph = self._graph
        product = graph.node("MatMul", [keys, columns], f"{output}.product")
        # Turned first: ONNX Runtime would leave the rounding to float16 out before a Cast, and GPUs do not.
        rows = graph.node("Transpose", [product], f"{output}.rows", perm=[0, 1, 3, 2])
        return graph.node("Cast", [rows], output, to=TensorProto.FLOAT)

    def _folded_mask(self, layer: int) -> Value:
        """The mask for every query that shares a KV head, one below the other; the layers share it."""
        graph, mask, group = self._graph, self._mask(layer), self._spec.heads // self._spec.kv_heads
        folded = f"{mask}.folded"
        if group == 1:
            return mask
        if graph.first(folded):
            graph.node("Concat", [mask] * group, folded, axis=2)
        return folded

    def _capacity(self) -> Value:
        if self._graph.first("past_rows"):
            self._graph.node("Shape", [self._past(0, "key")], "past_rows", start=2, end=3)
        return "past_rows"
