"""Attention of the portable dialect in operators of opset 21."""

from __future__ import annotations

from onnx import TensorProto

from export.graph.builder import Value
from export.graph.portable_attention import PortableAttention

# Further below any score than exp can tell, in float32.
_LEAST = -1e30
_PARTS = ("past", "new")


class PrimitiveAttention(PortableAttention):
    """Products with the cache and with the new tokens, side by side in one softmax.

    So the cache is read where it is: behind Concat it would be copied for every token. Queries that share a KV head
    are rows of one product, so that it is read once. Scores are float32: float16 has no more than 11 bits for the sum
    of a large part that all keys share and the small one that tells them apart. TF32 loses nothing of float16 factors.
    """

    def _mixed(self, layer: int, q: Value, k: Value, v: Value, prefix: str) -> Value:
        spec, graph = self._spec, self._graph
        folded = graph.node(
            "Reshape", [q, graph.ints("folded", [1, spec.kv_heads, -1, spec.head_dim])], f"{prefix}.folded"
        )
        wide = graph.node("Cast", [folded], f"{folded}.wide", to=TensorProto.FLOAT)
        scaled = graph.node("Mul", [wide, self._query_factor(layer)], f"{prefix}.scaled")
        keys, values = self._keys(layer, k, prefix), self._values(layer, v, prefix)
        scores = [
            self._scores(scaled, x, f"{prefix}.scores.{part}") for part, x in zip(_PARTS, keys, strict=True)
        ]
        beside = graph.node("Concat", scores, f"{prefix}.scores", axis=-1)
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

    def _query_factor(self, layer: int) -> Value:
        """What queries are multiplied by, float32."""
        return self._graph.number("scale", self._spec.head_dim**-0.5)

    def _keys(self, layer: int, k: Value, prefix: str) -> tuple[Value, Value]:
        """Keys of the cache and of the new tokens, both float32; the new ones go out."""
        past, new = self._past(layer, "key"), self._new(layer, "key", k)
        wide = [
            self._graph.node("Cast", [x], f"{prefix}.keys.{part}", to=TensorProto.FLOAT)
            for part, x in zip(_PARTS, (past, new), strict=True)
        ]
        return wide[0], wide[1]

    def _values(self, layer: int, v: Value, prefix: str) -> tuple[Value, Value]:
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

    def _scores(self, q: Value, keys: Value, output: Value) -> Value:
        turned = self._graph.node("Transpose", [keys], f"{output}.turned", perm=[0, 1, 3, 2])
        return self._graph.node("MatMul", [q, turned], output)

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
