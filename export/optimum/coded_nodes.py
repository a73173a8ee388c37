"""Nodes that read codes: MatMulNBits and GatherBlockQuantized, with the initializers that they read."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx
from onnx import TensorProto, helper

from export.graph.graph import OLDEST_ENGINE, newest
from export.graph.onnxruntime_dialect import OLDEST_FOR_ODD_ZEROS
from export.graph.weight_store import StoredMatrix
from export.optimum.source_graph import CONTRIB

# 8-bit activations; the exact level has no fast 8-bit kernel.
_INT8_ACTIVATIONS = 4


class CodedNodes:
    """Those of one graph, in which the names `taken` are not to be used again."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._initializers: dict[str, onnx.TensorProto] = {}
        self.requires = OLDEST_ENGINE
        """The oldest ONNX Runtime that runs them."""

    @property
    def initializers(self) -> list[onnx.TensorProto]:
        """What all nodes made so far read beside activations."""
        return list(self._initializers.values())

    def product(self, node: onnx.NodeProto, matrix: StoredMatrix) -> list[onnx.NodeProto]:
        """In place of a MatMul or Gemm: [outputs, inputs] in codes, and the bias added."""
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
        return [made, helper.make_node("Add", [product, bias], [node.output[0]])] if bias else [made]

    def embedding(self, node: onnx.NodeProto, matrix: StoredMatrix) -> list[onnx.NodeProto]:
        """In place of a Gather of rows."""
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
                self.requires = newest(self.requires, OLDEST_FOR_ODD_ZEROS)
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
        bounds = [self._put(f"int.{value}", _integer(value), (1,)) for value in (0, matrix.inputs, -1)]
        return [made, helper.make_node("Slice", [rows, *bounds], [node.output[0]])]

    def _put(
        self, name: str, tensor: Callable[[str, tuple[int, ...]], onnx.TensorProto], shape: tuple[int, ...]
    ) -> str:
        name = f"edgewise.{name}"
        if name not in self._initializers:
            self._initializers[name] = tensor(name, shape)
        return name

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _integer(value: int) -> Callable[[str, tuple[int, ...]], onnx.TensorProto]:
    return lambda name, shape: helper.make_tensor(name, TensorProto.INT64, shape, [value])
