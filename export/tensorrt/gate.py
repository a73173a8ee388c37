"""The gate: what a GPU cannot compute is refused before anything is built."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import TensorProto

from boards.board import sm_version
from boards.targets import short
from edge.errors import TargetRefused
from export.tensorrt.target import Target
from runtimes.tensorrt.header import TENSORRT

# The lowest compute capability whose kernels TensorRT has for weights of a type.
LOWEST_SM = {"int4": "8.0", "fp8": "8.9", "fp4": "10.0"}
_TYPES: dict[int, str] = {
    TensorProto.INT4: "int4",
    TensorProto.INT8: "int8",
    TensorProto.FLOAT8E4M3FN: "fp8",
    TensorProto.FLOAT8E5M2: "fp8",
    TensorProto.FLOAT4E2M1: "fp4",
}


def coded_weights(model: onnx.ModelProto) -> tuple[str, ...]:
    """The types of the graph's weights that are not floats of 16 bits or more; float16 where all are."""
    found = {_TYPES[tensor.data_type] for tensor in model.graph.initializer if tensor.data_type in _TYPES}
    return tuple(sorted(found)) or ("float16",)


def check_precision(weights: Iterable[str], target: Target) -> None:
    """Raises TargetRefused where the target's TensorRT has no kernels for a type of weights."""
    for kind in weights:
        if kind == "int8" and target.flavour == TENSORRT:
            raise TargetRefused(
                f"target {target.name}: TensorRT has scales of blocks for int4 weights alone, TensorRT for RTX for "
                "int8 as well; export it with --weights int4 or fp16"
            )
        lowest = LOWEST_SM.get(kind)
        if lowest is not None and sm_version(target.sm) < sm_version(lowest):
            step = (
                "export it with --weights int8 or fp16"
                if kind == "int4"
                else "export it with --weights int4 or int8"
            )
            raise TargetRefused(
                f"target {target.name}: TensorRT multiplies {kind} weights from {short(lowest)} on, and this is "
                f"{short(target.sm)}; {step}"
            )
