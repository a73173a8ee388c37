"""Which nodes of a graph are to read codes: products with constant matrices, and embeddings."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper

from export.optimum.constants import Constant, Constants
from export.optimum.ranks import ranks
from export.optimum.source_graph import SourceGraph, checked_floats
from export.quantize.float16 import LARGEST

_LEAST_ELEMENTS = 4096
"""Of a matrix that is quantized: what is smaller saves nothing, since each tensor begins on a page."""
_LEAST_INPUTS = 32


class Choice:
    """The choice for one graph.

    Raises:
        TensorError: a weight of a matrix that would be quantized is not finite.
        CheckpointCorrupt
    """

    def __init__(self, source: SourceGraph, constants: Constants) -> None:
        self._source, self._constants = source, constants
        self._ranks = ranks(source.model)
        self._chosen: dict[str, Constant] = {}
        readers: Counter[str] = Counter()
        for node in source.graph.node:
            constant = self._candidate(node)
            if constant is not None:
                self._chosen[node.output[0]] = constant
                readers[_matrix(node)] += 1
        # One that another node needs as floats stays so everywhere: it would be stored twice.
        fits = {
            name: constants.read_by_none_but(readers, name) and self._in_range(name)
            for name in {constant.name for constant in self._chosen.values()}
        }
        self._chosen = {output: constant for output, constant in self._chosen.items() if fits[constant.name]}

    def rows(self, node: onnx.NodeProto) -> NDArray[Any] | None:
        """Float32 [outputs, inputs] of a product, the rows of an embedding; None of a node that stays as it is."""
        constant = self._chosen.get(node.output[0]) if node.output else None
        if constant is None:
            return None
        values = self._source.array(constant.name)
        return values if node.op_type == "Gather" or _reads_columns(constant, node) else values.T

    def _candidate(self, node: onnx.NodeProto) -> Constant | None:
        kind = node.op_type
        if node.domain not in ("", "ai.onnx") or kind not in ("MatMul", "Gemm", "Gather"):
            return None
        constant = self._constants.find(_matrix(node))
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

    def _large(self, constant: Constant, node: onnx.NodeProto) -> bool:
        rows, inputs = self._source.initializers[constant.name].dims
        if node.op_type != "Gather" and not _reads_columns(constant, node):
            rows, inputs = inputs, rows
        return bool(rows * inputs >= _LEAST_ELEMENTS and inputs >= _LEAST_INPUTS)

    def _in_range(self, name: str) -> bool:
        """Whether the scales of a matrix can be float16."""
        values = checked_floats(name, self._source.array(name))
        return bool(values.max() <= LARGEST and values.min() >= -LARGEST)


def _matrix(node: onnx.NodeProto) -> str:
    """The input of a product or an embedding that may be a constant matrix."""
    at = 0 if node.op_type == "Gather" else 1
    return str(node.input[at]) if len(node.input) > 1 else ""


def _reads_columns(constant: Constant, node: onnx.NodeProto) -> bool:
    """Whether the initializer is [outputs, inputs], as MatMulNBits has it."""
    turned = node.op_type == "Gemm" and bool(_attribute(node, "transB", 0))
    return bool(constant.transposed != turned)


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)
