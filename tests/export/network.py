"""What TensorRT for RTX reads of a graph, in the process of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import pytest

from edge.artifact import ModelSpec

trt = pytest.importorskip(
    "tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'edgewise[tensorrt]'"
)

# Said of every input of whole numbers; they are bound as int64.
EXPECTED = "has Int64 binding"


class Log(trt.ILogger):  # type: ignore[misc]
    """Keeps what is warned of; an input that is dropped in silence shows as "Unused Input" here."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[str] = []

    def log(self, severity: Any, line: str) -> None:
        if severity <= trt.ILogger.WARNING and EXPECTED not in line:
            self.lines.append(line)


@cache
def log() -> Log:
    """TensorRT takes one logger a process."""
    return Log()


@dataclass(frozen=True)
class Network:
    """A parsed graph. The network's weights are the parser's."""

    builder: Any
    network: Any
    parser: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]


def parsed(path: Path, model: onnx.ModelProto) -> Network:
    """`model`, its weights in files beside `path`; every value is in the network, and nothing is warned of."""
    log().lines.clear()
    builder = trt.Builder(log())
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log())
    read = parser.parse(model.SerializeToString(), str(path))
    assert read, [parser.get_error(i).desc() for i in range(parser.num_errors)]
    assert log().lines == []
    inputs = {tensor.name: tensor for tensor in map(network.get_input, range(network.num_inputs))}
    outputs = {tensor.name: tensor for tensor in map(network.get_output, range(network.num_outputs))}
    assert set(inputs) == {value.name for value in model.graph.input}
    assert set(outputs) == {value.name for value in model.graph.output}
    return Network(builder, network, parser, inputs, outputs)


def check_values(found: Network, spec: ModelSpec, capacity: int, *, in_place: bool, kv: Any) -> None:
    """Types and shapes of the inputs and outputs, as documented."""
    int64, keys = trt.DataType.INT64, capacity if in_place else -1
    expected: dict[str, tuple[Any, tuple[int, ...]]] = {
        "input_ids": (int64, (1, -1)),
        "position_ids": (int64, (1, -1)),
        "logit_positions": (int64, (-1,)),
    }
    for window in {spec.window(layer) for layer in range(spec.layers)}:
        name = f"attention_mask.{window}" if 0 < window < spec.context else "attention_mask"
        expected[name] = trt.DataType.BOOL, (1, 1, -1, keys)
    if in_place:
        expected["write_indices"] = (int64, (1,))
    rows, new = ((1, spec.kv_heads, n, spec.head_dim) for n in (capacity, -1))
    given = {"logits": (trt.DataType.FLOAT, (-1, spec.vocab_size))}
    for layer in range(spec.layers):
        for kind in ("key", "value"):
            expected[f"past.{layer}.{kind}"] = kv, rows
            given[f"{'present' if in_place else 'new'}.{layer}.{kind}"] = kv, rows if in_place else new
    assert _described(found.inputs) == expected
    assert _described(found.outputs) == given


def _described(tensors: dict[str, Any]) -> dict[str, tuple[Any, Sequence[int]]]:
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
