"""Attention of the cpu dialect: our operator, with the norms of heads, RoPE and the writing of the cache inside.

Several sequences stand one behind the other in input_ids. Adds to the graph, as inputs: sequence_starts int32
[sequences + 1], held int32 [sequences] and kv_format int32 [2] (KV type and whether pages have summaries); for each
group G of layers whose KV is kept alike pool.G uint8 [pages, page_bytes], which the operator writes in place, and
block_table.G int32 [sequences, blocks].
"""

from __future__ import annotations

from onnx import TensorProto

from edge.artifact import ModelSpec, kv_layers
from edge.errors import Unsupported
from export.graph.builder import Value
from export.graph.graph import Graph
from export.graph.rope_table import rope_tables
from export.graph.weight_store import WeightStore

# Numbers of a head that the operator takes.
_MOST_NUMBERS = 1024


class CpuAttention:
    """Emits attention into `graph`.

    Raises:
        Unsupported: heads that the operator does not take.
    """

    def __init__(self, spec: ModelSpec, weights: WeightStore, graph: Graph, domain: str) -> None:
        if spec.head_dim % 2 or spec.head_dim > _MOST_NUMBERS:
            raise Unsupported(
                f"heads have {spec.head_dim} numbers, and the cpu engine takes an even number up to {_MOST_NUMBERS}; "
                "export with --engine onnxruntime"
            )
        self._spec, self._weights, self._graph, self._domain = spec, weights, graph, domain
        # Of each layer: its group, and its place in it.
        self._places = {
            layer: (group, place)
            for group, (_, layers) in enumerate(kv_layers(spec))
            for place, layer in enumerate(layers)
        }
        self._sequences = [
            graph.input("kv_format", [2], TensorProto.INT32),
            graph.input("sequence_starts", ["sequence_ends"], TensorProto.INT32),
            graph.input("held", ["sequences"], TensorProto.INT32),
        ]
        cos, sin = rope_tables(spec)
        self._tables = [
            graph.initializer("rope.cos", weights.constant(cos)),
            graph.initializer("rope.sin", weights.constant(sin)),
        ]

    def emit(self, layer: int, qkv: Value, prefix: str) -> Value:
        """See `Builder.attention`."""
        spec, graph = self._spec, self._graph
        group, place = self._places[layer]
        inputs = [
            qkv,
            graph.input(f"pool.{group}", [f"pages.{group}", f"page_bytes.{group}"], TensorProto.UINT8),
            *self._sequences,
            graph.input(f"block_table.{group}", ["sequences", f"blocks.{group}"], TensorProto.INT32),
            *self._tables,
        ]
        norms = [f"{prefix}.{name}_norm.weight" for name in "qk"] if spec.qk_norm else []
        inputs += [graph.initializer(*self._weights.vector([name])) for name in norms] or ["", ""]
        if spec.qkv_bias and not spec.qk_norm:
            # Keys lie about their bias, and their distance from it takes fewer bits.
            bias = self._weights.vector([f"{prefix}.{name}_proj.bias" for name in "qkv"])
            inputs.append(graph.initializer(*bias))
        return graph.node(
            "Attention",
            inputs,
            f"{prefix}.mixed",
            domain=self._domain,
            heads=spec.heads,
            kv_heads=spec.kv_heads,
            head_dim=spec.head_dim,
            value_dim=spec.head_dim,
            window=spec.window(layer),
            layer=place,
            scale=spec.head_dim**-0.5,
            epsilon=spec.norm_eps,
            softcap=0.0,
        )
