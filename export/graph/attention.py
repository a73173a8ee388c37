"""Attention as both dialects for ONNX Runtime have it: GroupQueryAttention, with RoPE inside where it can.

Adds the cache to the graph: seqlens_k int32 [1] (tokens in all, less one), total_sequence_length int32 [1], past.L.key
and past.L.value [1, kv_heads, capacity, head_dim] of the type of activations as inputs, present.L.key and
present.L.value as outputs, to be bound to the memory of the past. Where heads of float16 are turned outside of the
operator there is first_position int64 [1] too.
"""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from edge.artifact import ModelSpec
from edge.errors import Unsupported
from export.graph.builder import Value
from export.graph.graph import CONTRIB, Graph
from export.graph.rope_table import rope_tables
from export.graph.weight_store import WeightStore

# Earlier ones let a query see one token more than the window.
OLDEST_FOR_WINDOWS = "1.24.0"
# GroupQueryAttention takes heads of a multiple of 8, and turns those of a multiple of 16 itself.
_HEAD_STEP, _TURNED_HEAD_STEP = 8, 16


class Attention:
    """Emits attention into `graph`.

    Raises:
        Unsupported: heads of a size that ONNX Runtime does not take.
    """

    def __init__(self, spec: ModelSpec, weights: WeightStore, graph: Graph) -> None:
        if spec.head_dim % _HEAD_STEP:
            raise Unsupported(
                f"head_dim is {spec.head_dim}, and the attention of ONNX Runtime takes multiples of {_HEAD_STEP}; "
                "choose another checkpoint"
            )
        self._spec, self._weights, self._graph = spec, weights, graph
        self._half = weights.floats == "float16"
        self._lengths = [
            graph.input(name, [1], TensorProto.INT32) for name in ("seqlens_k", "total_sequence_length")
        ]
        self._cos, self._sin = (
            graph.initializer(f"rope.{name}", weights.constant(table.astype(weights.floats)))
            for name, table in zip(("cos", "sin"), rope_tables(spec), strict=True)
        )

    def emit(self, layer: int, qkv: Value, prefix: str) -> Value:
        """See `Builder.attention`."""
        spec, graph = self._spec, self._graph
        turned_inside = spec.head_dim % _TURNED_HEAD_STEP == 0
        queries: list[Value] = [qkv, "", ""]
        if spec.qk_norm or not turned_inside:
            q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
            queries = [f"{prefix}.{name}" for name in "qkv"]
            split = graph.ints("qkv_split", [q, kv, kv])
            graph.nodes("Split", [qkv, split], queries, name=f"{prefix}.split", axis=-1)
        for i, heads in enumerate((spec.heads, spec.kv_heads)):
            if spec.qk_norm:
                queries[i] = self._head_norm(queries[i], heads, f"{prefix}.{'qk'[i]}_norm")
            if not turned_inside:
                queries[i] = self._turned(queries[i])
        cache: list[int | str] = [1, spec.kv_heads, "capacity", spec.head_dim]
        kept = TensorProto.FLOAT16 if self._half else TensorProto.FLOAT
        past = [graph.input(f"past.{layer}.{kind}", cache, kept) for kind in ("key", "value")]
        present = [graph.output(f"present.{layer}.{kind}", cache, kept) for kind in ("key", "value")]
        inputs = [*queries, *past, *self._lengths]
        if turned_inside:
            inputs += [self._cos, self._sin]
        options: dict[str, Any] = {}
        if window := self._window(layer):
            graph.need(OLDEST_FOR_WINDOWS)
            options["local_window_size"] = window
        graph.nodes(
            "GroupQueryAttention",
            inputs,
            [f"{prefix}.mixed", *present],
            domain=CONTRIB,
            num_heads=spec.heads,
            kv_num_heads=spec.kv_heads,
            do_rotary=int(turned_inside),
            scale=spec.head_dim**-0.5,
            **options,
        )
        return f"{prefix}.mixed"

    def _window(self, layer: int) -> int:
        """The layer's window in tokens, 0 where the context ends before it does."""
        window = self._spec.window(layer)
        return window if window < self._spec.context else 0

    def _turned(self, x: Value) -> Value:
        """Queries or keys with RoPE applied, the first token at the position behind those in the cache."""
        inputs = [x, self._start(), self._cos, self._sin]
        return self._graph.node("RotaryEmbedding", inputs, f"{x}.turned", domain=CONTRIB)

    def _start(self) -> Value:
        """Where the first token stands."""
        graph = self._graph
        if self._half:
            # ONNX Runtime leaves what is computed of shapes to the CPU, which sessions for CUDA are not to use.
            return graph.input("first_position", [1], TensorProto.INT64)
        if graph.first("rope.start"):
            total = graph.node("Cast", ["total_sequence_length"], "rope.total", to=TensorProto.INT64)
            tokens = graph.node("Shape", ["input_ids"], "rope.tokens", start=1, end=2)
            graph.node("Sub", [total, tokens], "rope.start")
        return "rope.start"

    def _head_norm(self, x: Value, heads: int, weight: str) -> Value:
        """Norm of every head by itself: [1, tokens, heads · head_dim] keeps its shape."""
        graph, width = self._graph, self._spec.head_dim
        apart = graph.node("Reshape", [x, graph.ints(f"heads_{heads}", [0, 0, heads, width])], f"{x}.heads")
        scale = graph.initializer(*self._weights.vector([f"{weight}.weight"]))
        normed = graph.simplified_norm(apart, scale, weight)
        joined = graph.ints(f"joined_{heads}", [0, 0, heads * width])
        return graph.node("Reshape", [normed, joined], f"{weight}.joined")
