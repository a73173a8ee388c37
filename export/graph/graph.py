"""A graph in the making: nodes, initializers, the model's inputs and outputs. The same for every dialect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge.artifact import ModelSpec
from export.graph.builder import Value
from export.graph.weights_file import Region

# What ONNX Runtime 1.23.2, the newest for Python 3.10, loads.
OPSET, IR_VERSION, OLDEST_ENGINE = 21, 10, "1.23.2"
CONTRIB = "com.microsoft"


class Graph:
    """Input: input_ids int64 [1, tokens]. The attention adds those of the cache, `wanted` logit_positions int64 [n],
    and a head the output, logits float32 [n, vocab].
    """

    def __init__(
        self, spec: ModelSpec, domains: Sequence[str], opset: int = OPSET, ir: int = IR_VERSION
    ) -> None:
        """`domains` are those of operators that are not ONNX's own; `opset` and `ir` the versions of ONNX."""
        self._spec = spec
        self._domains = domains
        self._opset, self._ir = opset, ir
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._named: set[str] = set()
        self._inputs = [_info("input_ids", TensorProto.INT64, [1, "tokens"])]
        self._outputs: list[onnx.ValueInfoProto] = []
        self._needs = {OLDEST_ENGINE}

    @property
    def requires(self) -> str:
        """The oldest ONNX Runtime that runs the graph rightly."""
        return newest(*self._needs)

    def need(self, version: str) -> None:
        """The graph is not right on an ONNX Runtime older than `version`."""
        self._needs.add(version)

    def input(self, name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> Value:
        """An input of the model; asked for again, the same one."""
        if self.first(name):
            self._inputs.append(_info(name, dtype, shape))
        return name

    def output(self, name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> Value:
        """A further output of the model."""
        self._outputs.append(_info(name, dtype, shape))
        return name

    def first(self, name: str) -> bool:
        """Whether `name` is asked about for the first time: for nodes that several others share."""
        new = name not in self._named
        self._named.add(name)
        return new

    def node(
        self, op: str, inputs: Sequence[Value], output: Value, /, *, domain: str = "", **attributes: Any
    ) -> Value:
        """Add a node with one output, which names it."""
        self.nodes(op, inputs, [output], domain=domain, **attributes)
        return output

    def nodes(
        self,
        op: str,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        /,
        *,
        name: str | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> None:
        """Add a node with several outputs, named after the first. Inputs missing at the end are left out."""
        inputs = list(inputs)
        while not inputs[-1]:
            inputs.pop()
        node = helper.make_node(op, inputs, list(outputs), name or outputs[0], domain=domain)
        # Not as keywords of make_node: an operator may have an attribute `inputs`.
        node.attribute.extend(helper.make_attribute(key, attributes[key]) for key in sorted(attributes))
        self._nodes.append(node)

    def simplified_norm(self, x: Value, scale: Value, output: Value) -> Value:
        """RMS norm along the last axis."""
        # Registered in ONNX's own domain by ONNX Runtime.
        return self.node(
            "SimplifiedLayerNormalization", [x, scale], output, axis=-1, epsilon=self._spec.norm_eps
        )

    def wanted(self, x: Value) -> Value:
        """Rows [n, width] of x [1, tokens, width] at the logit positions."""
        rows = self.node("Squeeze", [x, self.ints("batch_axis", [0])], f"{x}.tokens")
        positions = self.input("logit_positions", ["positions"], TensorProto.INT64)
        return self.node("Gather", [rows, positions], f"{x}.wanted", axis=0)

    def logits(self) -> Value:
        """The output of the head, to be named so."""
        return self.output("logits", ["positions", self._spec.vocab_size])

    def initializer(
        self, name: str, region: Region, shape: tuple[int, ...] | None = None, kind: int | None = None
    ) -> Value:
        """What was stored in `region`, seen as `shape`, which may hold one -1, and as `kind`, see `Region.tensor`."""
        if name not in self._initializers:
            if shape and -1 in shape:
                elements = int(np.prod(region.shape, dtype=np.int64))
                rest = int(np.prod([n for n in shape if n != -1], dtype=np.int64))
                shape = tuple(elements // rest if n == -1 else n for n in shape)
            self._initializers[name] = region.tensor(name, shape, kind)
        return name

    def half(self, name: str, value: float) -> Value:
        """A constant number, float16."""
        return self._number(name, value, TensorProto.FLOAT16)

    def number(self, name: str, value: float) -> Value:
        """A constant number, float32."""
        return self._number(name, value, TensorProto.FLOAT)

    def ints(self, name: str, values: Sequence[int]) -> Value:
        """A small constant, int64."""
        if name not in self._initializers:
            self._initializers[name] = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return name

    def _number(self, name: str, value: float, dtype: int) -> Value:
        if name not in self._initializers:
            self._initializers[name] = helper.make_tensor(name, dtype, [], [value])
        return name

    def model(self) -> onnx.ModelProto:
        """The finished graph, its weights in the weights file."""
        graph = helper.make_graph(
            self._nodes,
            "decoder",
            self._inputs,
            self._outputs,
            initializer=list(self._initializers.values()),
        )
        opsets = [helper.make_opsetid("", self._opset), *(helper.make_opsetid(d, 1) for d in self._domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=self._ir, producer_name="edgewise")


def newest(*versions: str) -> str:
    """The newest of versions of ONNX Runtime."""
    return max(versions, key=lambda version: [int(part) for part in version.split(".")])


def _info(name: str, dtype: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)
