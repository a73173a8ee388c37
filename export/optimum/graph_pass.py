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

from export.graph.graph import IR_VERSION, OLDEST_ENGINE
from export.optimum.choice import Choice
from export.optimum.coded_nodes import CodedNodes
from export.optimum.constants import Constants, names_read, passes_on
from export.optimum.shared_weights import SharedWeights
from export.optimum.source_graph import CONTRIB, SourceGraph, checked_floats, nodes

# Values of shapes and axes, which ONNX Runtime reads when it loads.
_INLINE = 1024


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
        TensorError: a weight is NaN, or one of a matrix that is quantized is infinite.
        CheckpointCorrupt, StorageError
    """
    graph, report, constants = source.graph, PassReport(), Constants(source)
    taken = {name for node in nodes(graph, source.path) for name in (*node.input, *node.output)}
    coded = CodedNodes(taken | set(source.initializers))
    choice = Choice(source, constants) if weights.recipe.bits else None
    made: list[onnx.NodeProto] = []
    for node in graph.node:
        rows = choice.rows(node) if choice else None
        if rows is None:
            made.append(node)
            if _reads_floats(node, source, constants):
                report.floats[node.op_type] += 1
        elif node.op_type == "Gather":
            made += coded.embedding(node, weights.matrix(rows))
            report.embeddings += 1
        else:
            made += coded.product(node, weights.matrix(rows))
            report.products += 1
    report.requires = coded.requires
    return _model(source, weights, _needed(made, graph), coded.initializers), report


def _reads_floats(node: onnx.NodeProto, source: SourceGraph, constants: Constants) -> bool:
    """Whether it is a product with a constant, or a convolution, that is left as it was."""
    return node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm") and any(
        name in source.initializers or constants.find(name) is not None for name in node.input[1:2]
    )


def _needed(made: list[onnx.NodeProto], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Without nodes that only passed a matrix on."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(made):
        if not passes_on(node) or node.output[0] in wanted:
            kept.append(node)
            wanted.update(names_read(node))
    return kept[::-1]


def _model(
    source: SourceGraph,
    weights: SharedWeights,
    made: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
) -> onnx.ModelProto:
    used = {name for node in made for name in names_read(node)}
    used |= {value.name for value in source.graph.output}
    graph = helper.make_graph(
        made,
        source.graph.name or "graph",
        # Older models name their weights among the inputs.
        [value for value in source.graph.input if value.name not in source.initializers],
        source.graph.output,
        initializer=[
            *(_float(source, weights, name) for name in source.initializers if name in used),
            *initializers,
        ],
    )
    opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in source.model.opset_import}
    opsets.setdefault(CONTRIB, 1)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(*opset) for opset in opsets.items()],
        ir_version=IR_VERSION,
        producer_name="edgewise",
    )


def _float(source: SourceGraph, weights: SharedWeights, name: str) -> onnx.TensorProto:
    """An initializer as it was, in the weights file where it is large."""
    values, kind = source.array(name), source.initializers[name].data_type
    if kind == TensorProto.FLOAT:
        _check_numbers(name, values)
    if values.nbytes >= _INLINE:
        return weights.tensor(name, values, kind)
    made = onnx.TensorProto(name=name, data_type=kind, dims=values.shape)
    made.raw_data = values.tobytes()
    return made


def _check_numbers(name: str, values: NDArray[Any]) -> None:
    # Infinite ones are the masks of attention.
    if np.isnan(values).any():
        checked_floats(name, np.where(np.isinf(values), 0, values))
