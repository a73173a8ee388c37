"""The cpu dialect: our own operators (domain `edgewise`) for attention and for all that reads quantized weights.

Norms, gates and sums of the residual stream are parts of the matrix products beside them: a product is held back
until its value is needed, and until then takes in what follows it. Inputs and outputs are those of `Graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from edge.artifact import ModelSpec
from export.graph.builder import Value
from export.graph.cpu_attention import CpuAttention
from export.graph.graph import Graph
from export.graph.panels import VERSION
from export.graph.weight_store import StoredPanels, WeightStore

DOMAIN = "edgewise"


@dataclass
class _Product:
    """A matrix product that is not in the graph yet."""

    x: Value
    weights: Sequence[str]
    norm: Value = ""
    bias: Value = ""
    residual: Value = ""
    gated: bool = False


class CpuDialect:
    """A Builder that emits nodes for ONNX Runtime with our kernels; weights are of 4, 5, 6 or 8 bits.

    Raises:
        Unsupported: heads that our attention does not take.
    """

    def __init__(self, spec: ModelSpec, weights: WeightStore) -> None:
        self._spec = spec
        self._weights = weights
        self._graph = Graph(spec, [DOMAIN])
        self._attention = CpuAttention(spec, weights, self._graph, DOMAIN)
        self._products: dict[Value, _Product] = {}
        # What is normed, and by which weight, under the name of the normed value.
        self._norms: dict[Value, tuple[Value, str]] = {}

    @property
    def requires(self) -> str:
        """The oldest ONNX Runtime that runs the graph rightly."""
        return self._graph.requires

    def embed(self, weight: str) -> Value:
        """See `Builder.embed`."""
        stored = self._weights.panels([weight])
        return self._graph.node(
            "Embedding", ["input_ids", self._data(stored)], weight, domain=DOMAIN, **self._attributes(stored)
        )

    def norm(self, stream: Value, update: Value | None, weight: str) -> tuple[Value, Value]:
        """See `Builder.norm`."""
        total = stream
        if update is not None:
            product = self._products.get(update)
            if product is None or product.residual:
                total = self._graph.node("Add", [self._ready(stream), self._ready(update)], f"{weight}.sum")
            else:
                product.residual, total = self._ready(stream), update
        self._norms[weight] = total, self._graph.initializer(*self._weights.vector([f"{weight}.weight"]))
        return weight, total

    def linear(self, x: Value, weights: Sequence[str], *, bias: bool) -> Value:
        """See `Builder.linear`."""
        b = self._graph.initializer(*self._weights.vector([f"{w}.bias" for w in weights])) if bias else ""
        return self._product(x, weights, b, "+".join(weights))

    def attention(self, layer: int, qkv: Value, prefix: str) -> Value:
        """See `Builder.attention`."""
        return self._attention.emit(layer, self._ready(qkv), prefix)

    def gate(self, gate_up: Value) -> Value:
        """See `Builder.gate`."""
        product = self._products.pop(gate_up)
        product.gated = True
        self._products[f"{gate_up}.gated"] = product
        return f"{gate_up}.gated"

    def wanted(self, x: Value) -> Value:
        """See `Builder.wanted`."""
        return self._graph.wanted(self._ready(x))

    def head(self, stream: Value, update: Value, norm: str, weight: str) -> None:
        """See `Builder.head`."""
        normed, _ = self.norm(stream, update, norm)
        self._ready(self._product(normed, [weight], "", self._graph.logits()))

    def model(self) -> onnx.ModelProto:
        """The finished graph, its weights in the weights file."""
        return self._graph.model()

    def _product(self, x: Value, weights: Sequence[str], bias: Value, output: Value) -> Value:
        stream, norm = self._norms.get(x, (x, ""))
        self._products[output] = _Product(self._ready(stream), weights, norm, bias)
        return output

    def _ready(self, value: Value) -> Value:
        """`value`, sure to be in the graph."""
        if value in self._norms and self._graph.first(value):
            stream, norm = self._norms[value]
            return self._graph.simplified_norm(self._ready(stream), norm, value)
        product = self._products.pop(value, None)
        if product is not None:
            stored = self._weights.panels(product.weights, gated=product.gated)
            self._graph.node(
                "Linear",
                [product.x, self._data(stored), product.norm, product.bias, product.residual],
                value,
                domain=DOMAIN,
                gated=int(product.gated),
                epsilon=self._spec.norm_eps,
                **self._attributes(stored),
            )
        return value

    def _data(self, stored: StoredPanels) -> Value:
        return self._graph.initializer(f"{stored.name}.panels", stored.data)

    def _attributes(self, stored: StoredPanels) -> dict[str, int]:
        precision = stored.precision
        return {
            "inputs": stored.inputs,
            "rows": stored.rows,
            "bits": precision.bits,
            "block": precision.block,
            "zero_points": int(precision.zero_points),
            "layout": VERSION,
        }
