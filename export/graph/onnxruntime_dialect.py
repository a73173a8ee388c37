"""The onnxruntime dialect: ONNX Runtime's contributed operators. Inputs and outputs are those of `Graph`.

Activations, keys and values are floats as `WeightStore.floats` says: float32 for CPUs, float16 for CUDA.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto

from edge.artifact import ModelSpec
from export.graph.attention import Attention
from export.graph.builder import Value
from export.graph.graph import CONTRIB, Graph
from export.graph.weight_store import StoredMatrix, WeightStore

# Earlier ones take the zero points of 4-bit embeddings for those of other rows, if a row has an odd number of them.
OLDEST_FOR_ODD_ZEROS = "1.27.0"
# Sources of about this version are what the float16 graph was held against (docs/tensorrt.md). Until 1.24 CUDA gathers
# wrong rows.
OLDEST_FOR_CUDA = "1.31.0"
# 8-bit activations in matrix products of quantized weights; the exact level has no fast 8-bit kernel on CPUs. CUDA's
# does not read the attribute.
_INT8_ACTIVATIONS = 4


class OnnxRuntimeDialect:
    """A Builder that emits nodes for ONNX Runtime.

    Raises:
        Unsupported: heads of a size that its attention does not take.
    """

    def __init__(self, spec: ModelSpec, weights: WeightStore) -> None:
        self._spec = spec
        self._weights = weights
        self._half = weights.floats == "float16"
        self._graph = Graph(spec, [CONTRIB])
        if self._half:
            self._graph.need(OLDEST_FOR_CUDA)
        self._attention = Attention(spec, weights, self._graph)
        self._widths: dict[Value, int] = {}

    @property
    def requires(self) -> str:
        """The oldest ONNX Runtime that runs the graph rightly."""
        return self._graph.requires

    def embed(self, weight: str) -> Value:
        """See `Builder.embed`."""
        graph, matrix = self._graph, self._weights.matrix([weight])
        precision = matrix.precision
        if precision is None or matrix.scales is None:
            rows = graph.node("Gather", [self._float_data(matrix), "input_ids"], weight, axis=0)
            return self._widened(rows)
        bits, block = precision.bits, precision.block
        inputs = [
            # The bytes the head reads, seen as rows: on disk they are there once.
            graph.initializer(f"{matrix.name}.rows", matrix.data, (matrix.rows, -1)),
            "input_ids",
            graph.initializer(f"{matrix.name}.row_scales", matrix.scales, (matrix.rows, matrix.blocks)),
        ]
        if matrix.zeros is not None:
            inputs.append(graph.initializer(f"{matrix.name}.row_zeros", matrix.zeros, (matrix.rows, -1)))
            if bits == 4 and matrix.blocks % 2:
                graph.need(OLDEST_FOR_ODD_ZEROS)
        elif self._half:
            inputs.append(self._middles(matrix, bits))
        rows = graph.node(
            "GatherBlockQuantized",
            inputs,
            weight,
            domain=CONTRIB,
            bits=bits,
            block_size=block,
            gather_axis=0,
            quantize_axis=1,
        )
        if matrix.blocks * block == matrix.inputs:
            return rows
        start, stop = graph.ints("zero", [0]), graph.ints("hidden_size", [matrix.inputs])
        return graph.node("Slice", [rows, start, stop, graph.ints("last_axis", [2])], f"{weight}.unpadded")

    def norm(self, stream: Value, update: Value | None, weight: str) -> tuple[Value, Value]:
        """See `Builder.norm`."""
        scale = self._graph.initializer(*self._weights.vector([f"{weight}.weight"]))
        if update is None:
            return self._graph.simplified_norm(stream, scale, weight), stream
        normed, total = weight, f"{weight}.sum"
        self._graph.nodes(
            "SkipSimplifiedLayerNormalization",
            [stream, update, scale],
            [normed, "", "", total],
            domain=CONTRIB,
            epsilon=self._spec.norm_eps,
        )
        return normed, total

    def linear(self, x: Value, weights: Sequence[str], *, bias: bool) -> Value:
        """See `Builder.linear`."""
        matrix = self._weights.matrix(weights)
        b = self._graph.initializer(*self._weights.vector([f"{w}.bias" for w in weights])) if bias else ""
        return self._product(x, matrix, b, matrix.name)

    def attention(self, layer: int, qkv: Value, prefix: str) -> Value:
        """See `Builder.attention`."""
        return self._attention.emit(layer, qkv, prefix)

    def gate(self, gate_up: Value) -> Value:
        """See `Builder.gate`."""
        graph, width = self._graph, self._spec.intermediate_size
        gate, up = f"{gate_up}.gate", f"{gate_up}.up"
        split = graph.ints("gate_split", [width, width])
        graph.nodes("Split", [gate_up, split], [gate, up], name=f"{gate_up}.split", axis=-1)
        silu = graph.node("QuickGelu", [gate], f"{gate}.silu", domain=CONTRIB, alpha=1.0)
        return graph.node("Mul", [silu, up], f"{gate_up}.gated")

    def wanted(self, x: Value) -> Value:
        """See `Builder.wanted`."""
        return self._graph.wanted(x)

    def head(self, stream: Value, update: Value, norm: str, weight: str) -> None:
        """See `Builder.head`."""
        normed, _ = self.norm(stream, update, norm)
        matrix, logits = self._weights.matrix([weight]), self._graph.logits()
        if self._half:
            product = self._product(normed, matrix, "", f"{logits}.float16")
            self._graph.node("Cast", [product], logits, to=TensorProto.FLOAT)
        else:
            self._product(normed, matrix, "", logits)

    def model(self) -> onnx.ModelProto:
        """The finished graph, its weights in the weights file."""
        return self._graph.model()

    def _product(self, x: Value, matrix: StoredMatrix, bias: Value, output: Value) -> Value:
        graph, precision = self._graph, matrix.precision
        if precision is None or matrix.scales is None:
            inputs = [x, self._widened(self._float_data(matrix))]
            product = f"{output}.product" if bias else output
            graph.node("FusedMatMul", inputs, product, domain=CONTRIB, transB=1)
            return graph.node("Add", [product, bias], output) if bias else product
        zeros = ""
        if matrix.zeros is not None:
            zeros = graph.initializer(f"{matrix.name}.zeros", matrix.zeros, (-1,))
        inputs = [
            x,
            graph.initializer(f"{matrix.name}.codes", matrix.data),
            graph.initializer(f"{matrix.name}.scales", matrix.scales, (matrix.rows * matrix.blocks,)),
            zeros,
            "",
            bias,
        ]
        return graph.node(
            "MatMulNBits",
            inputs,
            output,
            domain=CONTRIB,
            K=matrix.inputs,
            N=matrix.rows,
            bits=precision.bits,
            block_size=precision.block,
            **({} if self._half else {"accuracy_level": _INT8_ACTIVATIONS}),
        )

    def _middles(self, matrix: StoredMatrix, bits: int) -> Value:
        """Zero points in the middle: older CUDA operators take 0 for those that are left out."""
        middle = {4: 0x88, 8: 0x80}[bits]
        points = np.full((matrix.rows, -(-matrix.blocks * bits // 8)), middle, np.uint8)
        return self._graph.initializer(f"{matrix.name}.row_middles", self._weights.constant(points))

    def _float_data(self, matrix: StoredMatrix) -> Value:
        return self._graph.initializer(f"{matrix.name}.weight", matrix.data)

    def _widened(self, x: Value) -> Value:
        """fp16 weights as float32, where that is what is computed with; ONNX Runtime does this once, when it loads."""
        if self._half or self._weights.recipe.weights != "fp16":
            return x
        return self._graph.node("Cast", [x], f"{x}.float32", to=TensorProto.FLOAT)
