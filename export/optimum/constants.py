"""The constant matrices of a graph, and which nodes read them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from export.optimum.source_graph import SourceGraph


@dataclass(frozen=True)
class Constant:
    """An initializer of two dimensions that a node reads, as it is or transposed."""

    name: str
    transposed: bool


class Constants:
    """Float matrices of the main graph, also where Identity and Transpose only pass them on."""

    def __init__(self, source: SourceGraph) -> None:
        graph = source.graph
        self._initializers = source.initializers
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self._uses = Counter(name for node in graph.node for name in names_read(node))
        # An output may be a weight itself.
        self._uses.update(value.name for value in graph.output)
        self._passing: dict[str, list[str]] = {}
        for node in graph.node:
            if passes_on(node):
                self._passing.setdefault(node.input[0], []).append(node.output[0])

    def find(self, name: str) -> Constant | None:
        """What the value `name` is, where it is a matrix of floats."""
        transposed = False
        # Exporters pass shared weights on through Identity; a graph that goes in circles is not followed.
        for _ in range(8):
            if name in self._initializers:
                tensor = self._initializers[name]
                matrix = tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
                return Constant(name, transposed) if matrix else None
            node = self._producers.get(name)
            if node is None or not passes_on(node):
                return None
            transposed ^= node.op_type == "Transpose"
            name = node.input[0]
        return None

    def read_by_none_but(self, readers: Counter[str], name: str) -> bool:
        """Whether `readers`, uses by the names that are read, are all that there are of the initializer `name`."""
        left, seen = [name], {name}
        while left:
            value = left.pop()
            passed = self._passing.get(value, [])
            if self._uses[value] != readers[value] + len(passed) or seen.intersection(passed):
                return False
            seen.update(passed)
            left += passed
        return True


def names_read(node: onnx.NodeProto) -> list[str]:
    """All names that a node reads, in its inner graphs too."""
    names = list(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names += [value.name for value in graph.output]
            for inner in graph.node:
                names += names_read(inner)
    return names


def passes_on(node: onnx.NodeProto) -> bool:
    """Whether it gives the matrix that it reads, as it is or transposed."""
    return (
        node.domain in ("", "ai.onnx")
        and node.op_type in ("Identity", "Transpose")
        and len(node.input) == len(node.output) == 1
    )
