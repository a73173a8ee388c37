"""Attention of the cpu dialect: our operator, with the norms of heads, RoPE and the writing of the cache inside.

Adds the cache to the graph as inputs, which the operator writes in place: past.L.key float32 [1, kv_heads, pages,
head_dim, 64] and past.L.value float32 [1, kv_heads, 64 · pages, head_dim].
"""

from __future__ import annotations

from edge.artifact import ModelSpec
from edge.errors import Unsupported
from export.graph.builder import Value
from export.graph.graph import Graph
from export.graph.rope_table import rope_tables
from export.graph.weight_store import WeightStore

PAGE = 64
# Heads that share a KV head, and numbers of a head, that the operator takes.
_MOST_SHARING, _MOST_NUMBERS = 48, 1024


class CpuAttention:
    """Emits attention into `graph`.

    Raises:
        Unsupported: heads that the operator does not take.
    """

    def __init__(self, spec: ModelSpec, weights: WeightStore, graph: Graph, domain: str) -> None:
        sharing = spec.heads // spec.kv_heads
        if sharing > _MOST_SHARING or spec.head_dim % 2 or spec.head_dim > _MOST_NUMBERS:
            raise Unsupported(
                f"{sharing} heads of {spec.head_dim} numbers share a KV head, and the cpu engine takes up to "
                f"{_MOST_SHARING} of an even number up to {_MOST_NUMBERS}; export with --engine onnxruntime"
            )
        self._spec, self._weights, self._graph, self._domain = spec, weights, graph, domain
        cos, sin = rope_tables(spec)
        self._tables = [
            graph.initializer("rope.cos", weights.constant(cos)),
            graph.initializer("rope.sin", weights.constant(sin)),
        ]

    def emit(self, layer: int, qkv: Value, prefix: str) -> Value:
        """See `Builder.attention`."""
        spec, graph = self._spec, self._graph
        kv = spec.kv_heads
        inputs = [
            qkv,
            graph.input(f"past.{layer}.key", [1, kv, "pages", spec.head_dim, PAGE]),
            graph.input(f"past.{layer}.value", [1, kv, "capacity", spec.head_dim]),
            "total_sequence_length",
            *self._tables,
        ]
        if spec.qk_norm:
            inputs += [
                graph.initializer(*self._weights.vector([f"{prefix}.{name}_norm.weight"])) for name in "qk"
            ]
        return graph.node(
            "Attention",
            inputs,
            f"{prefix}.mixed",
            domain=self._domain,
            heads=spec.heads,
            kv_heads=kv,
            head_dim=spec.head_dim,
            window=spec.window(layer),
            scale=spec.head_dim**-0.5,
            epsilon=spec.norm_eps,
        )
