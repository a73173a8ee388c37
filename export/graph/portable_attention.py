"""Attention of the portable dialect, over a cache of a fixed capacity.

Inputs of the graph, beside those of `Graph`:

- position_ids int64 [1, tokens]: where the tokens stand, for the rotary embedding;
- attention_mask bool [1, 1, tokens, keys]: which keys a token sees; attention_mask.W for layers with a window of W
  tokens. The keys are the rows of the cache, and in the form that does not write them the new tokens behind;
- past.L.key and past.L.value float16, or int8 where KV is codes, [1, kv_heads, capacity, head_dim]: zeros at first.
  Rows that no token sees are multiplied by 0, so that they must be finite;
- write_indices int64 [1], in the form that writes: the row of the first new token.

Outputs: present.L.key and present.L.value of the same shape, to be bound to the memory of the past; or new.L.key and
new.L.value of their type, [1, kv_heads, tokens, head_dim], which the runtime writes into its cache.
"""

from __future__ import annotations

from onnx import TensorProto

from edge.artifact import ModelSpec
from export.graph.builder import Value
from export.graph.graph import Graph
from export.graph.portable_form import Form
from export.graph.portable_norm import rms_norm
from export.graph.portable_tables import COS, SIN, RopeTables
from export.graph.weight_store import WeightStore

MASK, POSITIONS, WRITE = "attention_mask", "position_ids", "write_indices"
# Scores that are left out: the least float16, which stays finite when it is added to.
_LEAST_HALF = -65504.0


class PortableAttention:
    """What both forms have in common: heads, their norms, masks, the cache."""

    _kept = TensorProto.FLOAT16
    """The type of keys and values in the cache."""

    def __init__(
        self, spec: ModelSpec, weights: WeightStore, graph: Graph, form: Form, tables: RopeTables
    ) -> None:
        self._spec, self._weights, self._graph, self._form = spec, weights, graph, form
        self._positions = graph.input(POSITIONS, [1, "tokens"], TensorProto.INT64)
        self._cos, self._sin = graph.initializer(COS, tables.cos), graph.initializer(SIN, tables.sin)

    def emit(self, layer: int, qkv: Value, prefix: str) -> Value:
        """See `Builder.attention`."""
        spec, graph = self._spec, self._graph
        q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        parts = [f"{prefix}.{name}" for name in "qkv"]
        graph.nodes(
            "Split", [qkv, graph.ints("qkv_split", [q, kv, kv])], parts, name=f"{prefix}.split", axis=-1
        )
        heads = [self._heads(parts[0], spec.heads), *(self._heads(x, spec.kv_heads) for x in parts[1:])]
        if spec.qk_norm:
            heads[:2] = [
                self._head_norm(x, f"{prefix}.{name}_norm") for x, name in zip(heads[:2], "qk", strict=True)
            ]
        q_heads, k_heads, v_heads = (
            graph.node("Transpose", [x], f"{part}.by_head", perm=[0, 2, 1, 3])
            for x, part in zip(heads, parts, strict=True)
        )
        mixed = self._mixed(layer, self._turned(q_heads), self._turned(k_heads), v_heads, prefix)
        by_token = graph.node("Transpose", [mixed], f"{mixed}.by_token", perm=[0, 2, 1, 3])
        return graph.node("Reshape", [by_token, graph.ints("joined", [0, 0, q])], f"{prefix}.joined")

    def _mixed(self, layer: int, q: Value, k: Value, v: Value, prefix: str) -> Value:
        """Values [1, heads, tokens, head_dim] weighted by the attention of q, which with k is turned."""
        raise NotImplementedError

    def _turned(self, x: Value) -> Value:
        """x [1, heads, tokens, head_dim] with RoPE applied."""
        raise NotImplementedError

    def _mask(self, layer: int) -> Value:
        """The input that says which keys the tokens of `layer` see."""
        window = self._spec.window(layer)
        # Where the context ends before the window does, it sees all.
        name = f"{MASK}.{window}" if 0 < window < self._spec.context else MASK
        keys = "capacity" if self._form.in_place else "keys"
        return self._graph.input(name, [1, 1, "tokens", keys], TensorProto.BOOL)

    def _past(self, layer: int, kind: str) -> Value:
        return self._graph.input(f"past.{layer}.{kind}", self._rows("capacity"), self._kept)

    def _rows(self, count: str) -> list[int | str]:
        return [1, self._spec.kv_heads, count, self._spec.head_dim]

    def _heads(self, x: Value, heads: int) -> Value:
        """[1, tokens, heads · head_dim] as [1, tokens, heads, head_dim]."""
        shape = self._graph.ints(f"heads_{heads}", [0, 0, heads, self._spec.head_dim])
        return self._graph.node("Reshape", [x, shape], f"{x}.heads")

    def _head_norm(self, x: Value, weight: str) -> Value:
        scale = self._graph.initializer(*self._weights.vector([f"{weight}.weight"]))
        return rms_norm(self._graph, self._form, x, scale, weight, self._spec.norm_eps)


class OperatorAttention(PortableAttention):
    """In operators of opset 24. TensorRT takes Attention with a mask, without past, present or lengths."""

    def _mixed(self, layer: int, q: Value, k: Value, v: Value, prefix: str) -> Value:
        graph = self._graph
        write = graph.input(WRITE, [1], TensorProto.INT64)
        held = [
            graph.node(
                "TensorScatter",
                [self._past(layer, kind), new, write],
                graph.output(f"present.{layer}.{kind}", self._rows("capacity"), TensorProto.FLOAT16),
                axis=2,
            )
            for kind, new in (("key", k), ("value", v))
        ]
        inputs = [q, *held, self._added_mask(layer)]
        return graph.node("Attention", inputs, f"{prefix}.mixed", scale=self._spec.head_dim**-0.5)

    def _turned(self, x: Value) -> Value:
        inputs = [x, self._cos, self._sin, self._positions]
        return self._graph.node("RotaryEmbedding", inputs, f"{x}.turned")

    def _added_mask(self, layer: int) -> Value:
        """What is added to the scores, float16; the layers share it."""
        graph, mask = self._graph, self._mask(layer)
        added = f"{mask}.added"
        if graph.first(added):
            numbers = [graph.half("seen", 0.0), graph.half("unseen", _LEAST_HALF)]
            graph.node("Where", [mask, *numbers], added)
        return added
