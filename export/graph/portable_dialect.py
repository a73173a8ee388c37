"""The portable dialect: operators of ONNX alone and symmetric DequantizeLinear, activations and KV in float16.

For TensorRT and whatever else reads ONNX, in two forms (`portable_form`). Both take input_ids int64 [1, tokens],
logit_positions int64 [n] and what `portable_attention` says, and give logits float32 [n, vocab]. One graph serves
prefill and decode: `tokens` is free.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto

from edge.artifact import ModelSpec
from export.graph.builder import Value
from export.graph.graph import Graph
from export.graph.portable_attention import OperatorAttention, PortableAttention
from export.graph.portable_coded import CodedAttention
from export.graph.portable_form import Form
from export.graph.portable_norm import rms_norm
from export.graph.portable_primitive import PrimitiveAttention
from export.graph.portable_tables import RopeTables
from export.graph.static_kv import Largest
from export.graph.weight_store import StoredSigned, WeightStore

_CODES = {4: TensorProto.INT4, 8: TensorProto.INT8}


class PortableDialect:
    """A Builder that emits `form`; several forms may share `weights` and `tables`, which are then stored once.

    Where `kv` says how large keys and values get, a layer each, the cache is int8. TensorScatter takes none: such a
    form does not write in place.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weights: WeightStore,
        form: Form,
        tables: RopeTables,
        kv: Sequence[Largest] | None = None,
    ) -> None:
        self._spec = spec
        self._weights = weights
        self._form = form
        self._graph = Graph(spec, [], form.opset, form.ir)
        self._attention: PortableAttention
        if kv is not None:
            assert not form.in_place
            self._attention = CodedAttention(spec, weights, self._graph, form, tables, kv)
        else:
            emitter = OperatorAttention if form.in_place else PrimitiveAttention
            self._attention = emitter(spec, weights, self._graph, form, tables)

    def embed(self, weight: str) -> Value:
        """See `Builder.embed`."""
        graph, matrix = self._graph, self._weights.signed([weight])
        rows = graph.node("Gather", [self._floats(matrix), "input_ids"], weight, axis=0)
        if matrix.width == matrix.inputs:
            return rows
        start, stop = graph.ints("zero", [0]), graph.ints("hidden_size", [matrix.inputs])
        return graph.node("Slice", [rows, start, stop, graph.ints("last_axis", [2])], f"{weight}.unpadded")

    def norm(self, stream: Value, update: Value | None, weight: str) -> tuple[Value, Value]:
        """See `Builder.norm`."""
        if update is not None:
            stream = self._graph.node("Add", [stream, update], f"{weight}.sum")
        scale = self._graph.initializer(*self._weights.vector([f"{weight}.weight"]))
        return rms_norm(self._graph, self._form, stream, scale, weight, self._spec.norm_eps), stream

    def linear(self, x: Value, weights: Sequence[str], *, bias: bool) -> Value:
        """See `Builder.linear`."""
        graph, matrix = self._graph, self._weights.signed(weights)
        if not bias:
            return self._product(x, matrix, matrix.name)
        product = self._product(x, matrix, f"{matrix.name}.product")
        b = graph.initializer(*self._weights.vector([f"{w}.bias" for w in weights]))
        return graph.node("Add", [product, b], matrix.name)

    def attention(self, layer: int, qkv: Value, prefix: str) -> Value:
        """See `Builder.attention`."""
        return self._attention.emit(layer, qkv, prefix)

    def gate(self, gate_up: Value) -> Value:
        """See `Builder.gate`."""
        graph, width = self._graph, self._spec.intermediate_size
        gate, up = f"{gate_up}.gate", f"{gate_up}.up"
        split = graph.ints("gate_split", [width, width])
        graph.nodes("Split", [gate_up, split], [gate, up], name=f"{gate_up}.split", axis=-1)
        sigmoid = graph.node("Sigmoid", [gate], f"{gate}.sigmoid")
        silu = graph.node("Mul", [gate, sigmoid], f"{gate}.silu")
        return graph.node("Mul", [silu, up], f"{gate_up}.gated")

    def wanted(self, x: Value) -> Value:
        """See `Builder.wanted`."""
        return self._graph.wanted(x)

    def head(self, stream: Value, update: Value, norm: str, weight: str) -> None:
        """See `Builder.head`."""
        normed, _ = self.norm(stream, update, norm)
        product = self._product(normed, self._weights.signed([weight]), "logits.float16")
        self._graph.node("Cast", [product], self._graph.logits(), to=TensorProto.FLOAT)

    def model(self) -> onnx.ModelProto:
        """The finished graph, its weights in the weights file."""
        return self._graph.model()

    def _product(self, x: Value, matrix: StoredSigned, output: Value) -> Value:
        """x [..., inputs] · Wᵀ. Where the last block of a row is not full, x is filled up: cutting the weights would
        keep TensorRT from multiplying their codes.
        """
        graph, weight = self._graph, self._floats(matrix)
        turned = f"{weight}.turned"
        if graph.first(turned):
            graph.node("Transpose", [weight], turned, perm=[1, 0])
        if fill := matrix.width - matrix.inputs:
            axis = graph.ints("last", [-1])
            pads = graph.ints(f"fill_{fill}", [0, fill])
            x = graph.node("Pad", [x, pads, graph.half("nothing", 0.0), axis], f"{output}.filled")
        return graph.node("MatMul", [x, turned], output)

    def _floats(self, matrix: StoredSigned) -> Value:
        """The weights float16 [rows, width]; a tied head takes those of the embedding."""
        graph, precision = self._graph, matrix.precision
        if precision is None or matrix.scales is None:
            return graph.initializer(f"{matrix.name}.weight", matrix.data)
        name = f"{matrix.name}.dequantized"
        if graph.first(name):
            shape = (matrix.rows, matrix.width)
            codes = graph.initializer(f"{matrix.name}.signed", matrix.data, shape, _CODES[precision.bits])
            blocks = (matrix.rows, matrix.width // precision.block)
            scales = graph.initializer(f"{matrix.name}.half_scales", matrix.scales, blocks)
            graph.node("DequantizeLinear", [codes, scales], name, axis=1, block_size=precision.block)
        return name
