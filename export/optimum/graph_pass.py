"""The pass over a float graph: products with constant matrices and large embeddings read quantized weights.

MatMul and Gemm become MatMulNBits, Gather becomes GatherBlockQuantized; all else, convolutions among it, stays float.
Precondition: the graph has operators of ONNX and com.microsoft alone. Postcondition: so it has; inputs and outputs are
what they were, and weights lie in the weights file, equal ones once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.graph.graph import IR_VERSION, OLDEST_ENGINE, newest
from export.graph.onnxruntime_dialect import OLDEST_FOR_ODD_ZEROS
from export.graph.weight_store import StoredMatrix
from export.optimum.shared_weights import SharedWeights
from export.optimum.source_graph import CONTRIB, SourceGraph, checked_floats, nodes
from export.quantize.float16 import LARGEST

LEAST_ELEMENTS = 4096
"""Of a matrix that is quantized: what is smaller saves nothing, since each tensor begins on a page."""
_LEAST_INPUTS = 32
# Values of shapes and axes, which ONNX Runtime reads when it loads.
_INLINE = 1024
# 8-bit activations; the exact level has no fast 8-bit kernel.
_INT8_ACTIVATIONS = 4


@dataclass(frozen=True)
class _Constant:
    """A matrix that a node reads: an initializer, as it is or transposed, behind nodes that only pass it on."""

    name: str
    transposed: bool


@dataclass
class PassReport:
    """What became of a graph."""

    products: int = 0
    embeddings: int = 0
    floats: Counter[str] = field(default_factory=Counter)
    """By operator, products with constants and convolutions that stay float."""
    requires: str = OLDEST_ENGINE


def quantize_graph(source: SourceGraph, weights: SharedWeights) -> tuple[onnx.ModelProto, PassReport]:
    """The graph with its weights in the weights file, quantized where the recipe has bits.

    Raises:
        TensorError: a weight is NaN or infinite.
        CheckpointCorrupt, StorageError
    """
    return _Pass(source, weights).run()


class _Pass:
    def __init__(self, source: SourceGraph, weights: SharedWeights) -> None:
        self._source, self._weights = source, weights
        graph = source.graph
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self._taken = {name for node in nodes(graph, source.path) for name in (*node.input, *node.output)}
        self._taken |= set(source.initializers)
        self._uses = Counter(name for node in graph.node for name in _read(node))
        # An output may be a weight itself.
        self._uses.update(value.name for value in graph.output)
        self._passing: dict[str, list[str]] = {}
        for node in graph.node:
            if _passes_on(node):
                self._passing.setdefault(node.input[0], []).append(node.output[0])
        self._ranks = _ranks(source)
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._report = PassReport()

    def run(self) -> tuple[onnx.ModelProto, PassReport]:
        graph, wanted = self._source.graph, self._wanted()
        made: list[onnx.NodeProto] = []
        for node in graph.node:
            constant = wanted.get(node.output[0]) if node.output else None
            if constant is None:
                made.append(node)
                self._keep(node)
                continue
            matrix = self._weights.matrix(self._rows(constant, node))
            if node.op_type == "Gather":
                made += self._gather(node, matrix)
                self._report.embeddings += 1
            else:
                made += self._product(node, matrix)
                self._report.products += 1
        return self._model(_needed(made, graph)), self._report

    def _wanted(self) -> dict[str, _Constant]:
        """By the first output of a node: the matrix that it is to read as codes.

        One that another node needs as floats stays so everywhere: it would be stored twice.
        """
        if not self._weights.recipe.bits:
            return {}
        found: dict[str, _Constant] = {}
        readers: Counter[str] = Counter()
        for node in self._source.graph.node:
            constant = self._candidate(node)
            if constant is not None:
                found[node.output[0]] = constant
                readers[node.input[0 if node.op_type == "Gather" else 1]] += 1
        fits: dict[str, bool] = {}
        for constant in found.values():
            name = constant.name
            if name not in fits:
                fits[name] = self._only_read(name, readers) and self._in_range(name)
        return {output: constant for output, constant in found.items() if fits[constant.name]}

    def _candidate(self, node: onnx.NodeProto) -> _Constant | None:
        if node.domain not in ("", "ai.onnx"):
            return None
        kind = node.op_type
        if kind not in ("MatMul", "Gemm", "Gather") or len(node.input) < 2:
            return None
        constant = self._constant(node.input[0 if kind == "Gather" else 1])
        if constant is None or not self._large(constant, node):
            return None
        if kind == "Gather":
            # Of a transposed matrix rows are columns.
            return None if constant.transposed or _attribute(node, "axis", 0) not in (0, -2) else constant
        if self._ranks.get(node.input[0], 2) < 2:
            return None
        if kind == "Gemm" and (
            _attribute(node, "transA", 0)
            or _attribute(node, "alpha", 1.0) != 1.0
            or (len(node.input) > 2 and node.input[2] and _attribute(node, "beta", 1.0) != 1.0)
        ):
            return None
        return constant

    def _constant(self, name: str) -> _Constant | None:
        """What `name` is, where it is a matrix of floats."""
        transposed = False
        # Exporters pass shared weights on through Identity; a graph that goes in circles is not followed.
        for _ in range(8):
            if name in self._source.initializers:
                tensor = self._source.initializers[name]
                matrix = tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
                return _Constant(name, transposed) if matrix else None
            node = self._producers.get(name)
            if node is None or not _passes_on(node):
                return None
            transposed ^= node.op_type == "Transpose"
            name = node.input[0]
        return None

    def _large(self, constant: _Constant, node: onnx.NodeProto) -> bool:
        rows, inputs = self._source.initializers[constant.name].dims
        if node.op_type != "Gather" and not self._reads_columns(constant, node):
            rows, inputs = inputs, rows
        return bool(rows * inputs >= LEAST_ELEMENTS and inputs >= _LEAST_INPUTS)

    def _reads_columns(self, constant: _Constant, node: onnx.NodeProto) -> bool:
        """Whether the initializer is [outputs, inputs], as MatMulNBits has it."""
        turned = node.op_type == "Gemm" and bool(_attribute(node, "transB", 0))
        return bool(constant.transposed != turned)

    def _only_read(self, name: str, readers: Counter[str]) -> bool:
        """Whether every use of an initializer, through what passes it on, reads it as codes."""
        left, seen = [name], {name}
        while left:
            value = left.pop()
            passed = self._passing.get(value, [])
            if self._uses[value] != readers[value] + len(passed) or seen.intersection(passed):
                return False
            seen.update(passed)
            left += passed
        return True

    def _in_range(self, name: str) -> bool:
        values = checked_floats(name, self._source.array(name))
        return bool(values.max() <= LARGEST and values.min() >= -LARGEST)

    def _rows(self, constant: _Constant, node: onnx.NodeProto) -> NDArray[Any]:
        """[outputs, inputs] of a product, the rows of an embedding."""
        values = self._source.array(constant.name)
        return values if node.op_type == "Gather" or self._reads_columns(constant, node) else values.T

    def _product(self, node: onnx.NodeProto, matrix: StoredMatrix) -> list[onnx.NodeProto]:
        assert matrix.scales is not None
        assert matrix.precision is not None
        bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
        product = self._free(f"{node.output[0]}.product") if bias else node.output[0]
        inputs = [
            node.input[0],
            self._put(f"{matrix.name}.codes", matrix.data.tensor, matrix.data.shape),
            self._put(f"{matrix.name}.scales", matrix.scales.tensor, (matrix.rows * matrix.blocks,)),
        ]
        if matrix.zeros is not None:
            inputs.append(self._put(f"{matrix.name}.zeros", matrix.zeros.tensor, (matrix.zeros.nbytes,)))
        made = helper.make_node(
            "MatMulNBits",
            inputs,
            [product],
            name=node.name,
            domain=CONTRIB,
            K=matrix.inputs,
            N=matrix.rows,
            bits=matrix.precision.bits,
            block_size=matrix.precision.block,
            accuracy_level=_INT8_ACTIVATIONS,
        )
        if not bias:
            return [made]
        return [made, helper.make_node("Add", [product, bias], [node.output[0]])]

    def _gather(self, node: onnx.NodeProto, matrix: StoredMatrix) -> list[onnx.NodeProto]:
        assert matrix.scales is not None
        assert matrix.precision is not None
        bits, block = matrix.precision.bits, matrix.precision.block
        whole = matrix.blocks * block == matrix.inputs
        rows = node.output[0] if whole else self._free(f"{node.output[0]}.padded")
        width = matrix.data.nbytes // matrix.rows
        inputs = [
            # The bytes that a product with the same matrix reads, seen as rows.
            self._put(f"{matrix.name}.rows", matrix.data.tensor, (matrix.rows, width)),
            node.input[1],
            self._put(f"{matrix.name}.row_scales", matrix.scales.tensor, (matrix.rows, matrix.blocks)),
        ]
        if matrix.zeros is not None:
            shape = matrix.rows, matrix.zeros.nbytes // matrix.rows
            inputs.append(self._put(f"{matrix.name}.row_zeros", matrix.zeros.tensor, shape))
            if bits == 4 and matrix.blocks % 2:
                self._report.requires = newest(self._report.requires, OLDEST_FOR_ODD_ZEROS)
        made = helper.make_node(
            "GatherBlockQuantized",
            inputs,
            [rows],
            name=node.name,
            domain=CONTRIB,
            bits=bits,
            block_size=block,
            gather_axis=0,
            quantize_axis=1,
        )
        if whole:
            return [made]
        bounds = [self._ints(f"edgewise.int.{value}", value) for value in (0, matrix.inputs, -1)]
        return [made, helper.make_node("Slice", [rows, *bounds], [node.output[0]])]

    def _keep(self, node: onnx.NodeProto) -> None:
        """Count a node that goes on reading float weights."""
        reads = node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm") and any(
            self._constant(name) is not None or name in self._source.initializers for name in node.input[1:2]
        )
        if reads:
            self._report.floats[node.op_type] += 1

    def _put(self, name: str, tensor: Any, shape: tuple[int, ...]) -> str:
        name = f"edgewise.{name}"
        if name not in self._initializers:
            self._initializers[name] = tensor(name, shape)
        return name

    def _ints(self, name: str, value: int) -> str:
        if name not in self._initializers:
            self._initializers[name] = helper.make_tensor(name, TensorProto.INT64, [1], [value])
        return name

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def _model(self, made: list[onnx.NodeProto]) -> onnx.ModelProto:
        source = self._source
        used = {name for node in made for name in _read(node)}
        used |= {value.name for value in source.graph.output}
        kept = [self._float(name) for name in source.initializers if name in used]
        inputs = [value for value in source.graph.input if value.name not in source.initializers]
        graph = helper.make_graph(
            made,
            source.graph.name or "graph",
            inputs,
            source.graph.output,
            initializer=[*kept, *self._initializers.values()],
        )
        opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in source.model.opset_import}
        opsets.setdefault(CONTRIB, 1)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(*opset) for opset in opsets.items()],
            ir_version=IR_VERSION,
            producer_name="edgewise",
        )

    def _float(self, name: str) -> onnx.TensorProto:
        values, tensor = self._source.array(name), self._source.initializers[name]
        if tensor.data_type == TensorProto.FLOAT:
            _check_weights(name, values)
        if values.nbytes < _INLINE:
            made = onnx.TensorProto(name=name, data_type=tensor.data_type, dims=values.shape)
            made.raw_data = values.tobytes()
            return made
        return self._weights.tensor(name, values, tensor.data_type)


def _check_weights(name: str, values: NDArray[Any]) -> None:
    # Infinite ones are the masks of attention.
    if np.isnan(values).any():
        checked_floats(name, np.where(np.isinf(values), 0, values))


def _read(node: onnx.NodeProto) -> list[str]:
    """All names that a node reads, in its inner graphs too."""
    names = list(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names += [value.name for value in graph.output]
            for inner in graph.node:
                names += _read(inner)
    return names


def _passes_on(node: onnx.NodeProto) -> bool:
    """Whether it gives the matrix that it reads, as it is or transposed."""
    return (
        node.domain in ("", "ai.onnx")
        and node.op_type in ("Identity", "Transpose")
        and len(node.input) == len(node.output) == 1
    )


def _needed(made: list[onnx.NodeProto], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Without nodes that only passed a matrix on."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(made):
        if not _passes_on(node) or node.output[0] in wanted:
            kept.append(node)
            wanted.update(_read(node))
    return kept[::-1]


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _ranks(source: SourceGraph) -> dict[str, int]:
    """Ranks of values, where they can be told without the weights."""
    light = _without_weights(source.model)
    try:
        inferred = onnx.shape_inference.infer_shapes(light)
    except Exception:
        # The graph itself says what it must; ONNX Runtime has the last word.
        inferred = light
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in values
        if value.type.tensor_type.HasField("shape")
    }


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large initializers as inputs."""
    graph = model.graph
    small = [
        t for t in graph.initializer if t.data_location != TensorProto.EXTERNAL and t.ByteSize() <= _INLINE
    ]
    names = {t.name for t in small}
    large = [
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in graph.initializer
        if t.name not in names
    ]
    inputs = [value for value in graph.input if value.name not in {t.name for t in graph.initializer}]
    light = helper.make_graph(graph.node, "light", [*inputs, *large], graph.output, initializer=small)
    return helper.make_model(light, opset_imports=model.opset_import, ir_version=model.ir_version)
