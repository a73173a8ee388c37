"""The onnxruntime dialect: ONNX Runtime's contributed operators.

Graph inputs: input_ids int64 [1, tokens]; seqlens_k int32 [1] (tokens in all, less one);
total_sequence_length int32 [1]; logit_positions int64 [n]; past.L.key and past.L.value float32
[1, kv_heads, capacity, head_dim]. Outputs: logits float32 [n, vocab], present.L.key and present.L.value, to be
bound to the same memory as the past ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge.artifact import ModelSpec
from edge.errors import Unsupported
from export.graph.builder import Value
from export.graph.rope_table import rope_tables
from export.graph.weight_store import StoredMatrix, WeightStore

# What ONNX Runtime 1.23.2, the newest for Python 3.10, loads.
OPSET, IR_VERSION, OLDEST_ENGINE = 21, 10, "1.23.2"
# Earlier ones let a query see one token more than the window.
OLDEST_FOR_WINDOWS = "1.24.0"
# Earlier ones take the zero points of 4-bit embeddings for those of other rows, if a row has an odd number of them.
OLDEST_FOR_ODD_ZEROS = "1.27.0"
# GroupQueryAttention takes heads of a multiple of 8, and turns those of a multiple of 16 itself.
_HEAD_STEP, _TURNED_HEAD_STEP = 8, 16
_CONTRIB = "com.microsoft"
# 8-bit activations in matrix products of quantized weights; the exact level has no fast 8-bit kernel.
_INT8_ACTIVATIONS = 4


class OnnxRuntimeDialect:
    """A Builder that emits nodes for ONNX Runtime.

    Raises:
        Unsupported: heads of a size that its attention does not take.
    """

    def __init__(self, spec: ModelSpec, weights: WeightStore) -> None:
        if spec.head_dim % _HEAD_STEP:
            raise Unsupported(
                f"head_dim is {spec.head_dim}, and the attention of ONNX Runtime takes multiples of {_HEAD_STEP}; "
                "choose another checkpoint"
            )
        self._spec = spec
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._inputs = [
            _info("input_ids", TensorProto.INT64, [1, "tokens"]),
            _info("seqlens_k", TensorProto.INT32, [1]),
            _info("total_sequence_length", TensorProto.INT32, [1]),
            _info("logit_positions", TensorProto.INT64, ["positions"]),
        ]
        self._outputs = [_info("logits", TensorProto.FLOAT, ["positions", spec.vocab_size])]
        self._stored: set[str] = set()
        self._needs = {OLDEST_ENGINE}
        cos, sin = rope_tables(spec)
        self._cos, self._sin = weights.constant("rope.cos", cos), weights.constant("rope.sin", sin)

    @property
    def requires(self) -> str:
        """The oldest ONNX Runtime that runs the graph rightly."""
        return max(self._needs, key=lambda version: [int(part) for part in version.split(".")])

    def embed(self, weight: str) -> Value:
        """See `Builder.embed`."""
        matrix = self._weights.matrix([weight])
        if matrix.scales is None:
            rows = self._node("Gather", [self._float_data(matrix), "input_ids"], weight, axis=0)
            return self._widened(rows)
        bits = self._weights.recipe.bits
        inputs = [
            # The bytes the head reads, seen as rows: on disk they are there once.
            self._initializer(f"{matrix.name}.rows", matrix.data, (matrix.rows, -1)),
            "input_ids",
            self._initializer(f"{matrix.name}.row_scales", matrix.scales, (matrix.rows, matrix.blocks)),
        ]
        if matrix.zeros is not None:
            inputs.append(self._initializer(f"{matrix.name}.row_zeros", matrix.zeros, (matrix.rows, -1)))
            if bits == 4 and matrix.blocks % 2:
                self._needs.add(OLDEST_FOR_ODD_ZEROS)
        block = self._weights.recipe.block
        rows = self._contrib(
            "GatherBlockQuantized",
            inputs,
            weight,
            bits=bits,
            block_size=block,
            gather_axis=0,
            quantize_axis=1,
        )
        if matrix.blocks * block == matrix.inputs:
            return rows
        start, stop = self._ints("zero", [0]), self._ints("hidden_size", [matrix.inputs])
        return self._node("Slice", [rows, start, stop, self._ints("last_axis", [2])], f"{weight}.unpadded")

    def norm(self, stream: Value, update: Value | None, weight: str) -> tuple[Value, Value]:
        """See `Builder.norm`."""
        scale = self._weights.vector([f"{weight}.weight"])
        eps = self._spec.norm_eps
        if update is None:
            return self._simplified_norm(stream, scale, weight), stream
        normed, total = weight, f"{weight}.sum"
        self._add(
            "SkipSimplifiedLayerNormalization", [stream, update, scale], [normed, "", "", total], epsilon=eps
        )
        return normed, total

    def linear(self, x: Value, weights: Sequence[str], *, bias: bool) -> Value:
        """See `Builder.linear`."""
        matrix = self._weights.matrix(weights)
        b = self._weights.vector([f"{w}.bias" for w in weights]) if bias else ""
        return self._product(x, matrix, b, matrix.name)

    def attention(self, layer: int, qkv: Value, prefix: str) -> Value:
        """See `Builder.attention`."""
        spec = self._spec
        turned_inside = spec.head_dim % _TURNED_HEAD_STEP == 0
        queries: list[Value] = [qkv, "", ""]
        if spec.qk_norm or not turned_inside:
            q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
            queries = [f"{prefix}.{name}" for name in "qkv"]
            self._nodes.append(
                helper.make_node(
                    "Split", [qkv, self._ints("qkv_split", [q, kv, kv])], queries, f"{prefix}.split", axis=-1
                )
            )
        for i, heads in enumerate((spec.heads, spec.kv_heads)):
            if spec.qk_norm:
                queries[i] = self._head_norm(queries[i], heads, f"{prefix}.{'qk'[i]}_norm")
            if not turned_inside:
                queries[i] = self._turned(queries[i])
        cache: list[int | str] = [1, spec.kv_heads, "capacity", spec.head_dim]
        past = [f"past.{layer}.{kind}" for kind in ("key", "value")]
        present = [f"present.{layer}.{kind}" for kind in ("key", "value")]
        self._inputs += [_info(name, TensorProto.FLOAT, cache) for name in past]
        self._outputs += [_info(name, TensorProto.FLOAT, cache) for name in present]
        inputs = [*queries, *past, "seqlens_k", "total_sequence_length"]
        if turned_inside:
            inputs += [self._cos, self._sin]
        window = self._window(layer)
        if window:
            self._needs.add(OLDEST_FOR_WINDOWS)
        self._add(
            "GroupQueryAttention",
            inputs,
            [f"{prefix}.mixed", *present],
            num_heads=spec.heads,
            kv_num_heads=spec.kv_heads,
            do_rotary=int(turned_inside),
            scale=spec.head_dim**-0.5,
            **({"local_window_size": window} if window else {}),
        )
        return f"{prefix}.mixed"

    def gate(self, gate_up: Value) -> Value:
        """See `Builder.gate`."""
        width = self._spec.intermediate_size
        gate, up = f"{gate_up}.gate", f"{gate_up}.up"
        split = self._ints("gate_split", [width, width])
        self._nodes.append(
            helper.make_node("Split", [gate_up, split], [gate, up], f"{gate_up}.split", axis=-1)
        )
        return self._node(
            "Mul", [self._contrib("QuickGelu", [gate], f"{gate}.silu", alpha=1.0), up], f"{gate_up}.gated"
        )

    def head(self, stream: Value, update: Value, norm: str, weight: str) -> None:
        """See `Builder.head`."""
        flat = self._ints("flat_rows", [-1, self._spec.hidden_size])
        rows = [
            self._node(
                "Gather",
                [self._node("Reshape", [x, flat], f"{x}.flat"), "logit_positions"],
                f"{x}.wanted",
                axis=0,
            )
            for x in (stream, update)
        ]
        normed, _ = self.norm(rows[0], rows[1], norm)
        self._product(normed, self._weights.matrix([weight]), "", "logits")

    def model(self) -> onnx.ModelProto:
        """The finished graph, its weights in the weights file."""
        graph = helper.make_graph(
            self._nodes, "decoder", self._inputs, self._outputs, initializer=self._weights.initializers
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edgewise")

    def _product(self, x: Value, matrix: StoredMatrix, bias: Value, output: Value) -> Value:
        if matrix.scales is None:
            w = self._widened(self._float_data(matrix))
            product = self._contrib("FusedMatMul", [x, w], f"{output}.product" if bias else output, transB=1)
            return self._node("Add", [product, bias], output) if bias else product
        recipe = self._weights.recipe
        inputs = [
            x,
            self._initializer(f"{matrix.name}.codes", matrix.data, None),
            self._initializer(f"{matrix.name}.scales", matrix.scales, (matrix.rows * matrix.blocks,)),
            self._initializer(f"{matrix.name}.zeros", matrix.zeros, (-1,))
            if matrix.zeros is not None
            else "",
            "",
            bias,
        ]
        while not inputs[-1]:
            inputs.pop()
        return self._contrib(
            "MatMulNBits",
            inputs,
            output,
            K=matrix.inputs,
            N=matrix.rows,
            bits=recipe.bits,
            block_size=recipe.block,
            accuracy_level=_INT8_ACTIVATIONS,
        )

    def _window(self, layer: int) -> int:
        """The layer's window in tokens, 0 where the context ends before it does."""
        window = self._spec.window(layer)
        return window if window < self._spec.context else 0

    def _turned(self, x: Value) -> Value:
        """Queries or keys with RoPE applied, the first token at the position behind those in the cache."""
        if "rope.start" not in self._stored:
            self._stored.add("rope.start")
            total = self._node("Cast", ["total_sequence_length"], "rope.total", to=TensorProto.INT64)
            tokens = self._node("Shape", ["input_ids"], "rope.tokens", start=1, end=2)
            self._node("Sub", [total, tokens], "rope.start")
        return self._contrib("RotaryEmbedding", [x, "rope.start", self._cos, self._sin], f"{x}.turned")

    def _head_norm(self, x: Value, heads: int, weight: str) -> Value:
        """Norm of every head by itself: [1, tokens, heads · head_dim] keeps its shape."""
        width = self._spec.head_dim
        apart = self._node("Reshape", [x, self._ints(f"heads_{heads}", [0, 0, heads, width])], f"{x}.heads")
        normed = self._simplified_norm(apart, self._weights.vector([f"{weight}.weight"]), weight)
        return self._node(
            "Reshape", [normed, self._ints(f"joined_{heads}", [0, 0, heads * width])], f"{weight}.joined"
        )

    def _simplified_norm(self, x: Value, scale: Value, output: Value) -> Value:
        # Registered in ONNX's own domain by ONNX Runtime.
        return self._node(
            "SimplifiedLayerNormalization", [x, scale], output, axis=-1, epsilon=self._spec.norm_eps
        )

    def _float_data(self, matrix: StoredMatrix) -> Value:
        return self._initializer(f"{matrix.name}.weight", matrix.data, None)

    def _widened(self, x: Value) -> Value:
        """fp16 weights as float32; ONNX Runtime does this once, when it loads."""
        if self._weights.recipe.weights != "fp16":
            return x
        return self._node("Cast", [x], f"{x}.float32", to=TensorProto.FLOAT)

    def _initializer(self, name: str, region: Any, shape: tuple[int, ...] | None) -> Value:
        if name not in self._stored:
            self._stored.add(name)
            if shape and -1 in shape:
                elements = int(np.prod(region.shape, dtype=np.int64))
                rest = int(np.prod([n for n in shape if n != -1], dtype=np.int64))
                shape = tuple(elements // rest if n == -1 else n for n in shape)
            self._weights.initializers.append(region.tensor(name, shape))
        return name

    def _ints(self, name: str, values: list[int]) -> Value:
        if name not in self._stored:
            self._stored.add(name)
            self._weights.initializers.append(
                helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
            )
        return name

    def _node(self, op: str, inputs: Sequence[Value], output: Value, **attributes: Any) -> Value:
        self._nodes.append(helper.make_node(op, list(inputs), [output], output, **attributes))
        return output

    def _contrib(self, op: str, inputs: Sequence[Value], output: Value, **attributes: Any) -> Value:
        self._add(op, inputs, [output], **attributes)
        return output

    def _add(self, op: str, inputs: Sequence[Value], outputs: Sequence[Value], **attributes: Any) -> None:
        node = helper.make_node(op, list(inputs), list(outputs), outputs[0], domain=_CONTRIB, **attributes)
        self._nodes.append(node)


def _info(name: str, dtype: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)
