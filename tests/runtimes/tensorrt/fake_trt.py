"""A stand-in for the module tensorrt: a "plan" names a graph, and ONNX Runtime runs it on the stand-in for CUDA."""

# Names are those of the module that it stands in for.
# ruff: noqa: N802

from __future__ import annotations

import ctypes
import json
import math
import weakref
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from runtimes.static.bindings import Binding, Interface
from tests.runtimes.tensorrt.fake_cuda import FakeCuda


class DataType(Enum):
    FLOAT, HALF, INT8, INT32, BOOL, INT64 = range(6)


class TensorIOMode(Enum):
    NONE, INPUT, OUTPUT = range(3)


class ExecutionContextAllocationStrategy(Enum):
    STATIC, ON_PROFILE_CHANGE = range(2)


class DynamicShapesKernelSpecializationStrategy(Enum):
    LAZY, EAGER, NONE = range(3)


_TYPES = {
    "float32": DataType.FLOAT, "float16": DataType.HALF, "int8": DataType.INT8, "bool": DataType.BOOL,
    "int64": DataType.INT64,
}  # fmt: skip


class Logger:
    ERROR = 1

    def __init__(self, severity: int) -> None:
        self.severity = severity


def plan_bytes(graph: Path, capacity: int) -> bytes:
    return json.dumps({"graph": str(graph), "capacity": capacity}).encode()


class FakeTensorRT:
    """The module."""

    __name__ = "fake_tensorrt"
    __version__ = "10.16.1.11"
    DataType, TensorIOMode, Logger = DataType, TensorIOMode, Logger
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy

    @property
    def engine(self) -> type[FakeEngine]:
        return FakeEngine

    def __init__(self, cuda: FakeCuda, interface: Interface) -> None:
        self.cuda, self.interface = cuda, interface
        self.engines: list[weakref.ref[FakeEngine]] = []
        """Those that were made."""
        self.most = 0
        """Of them, how many were there at once."""

    @property
    def alive(self) -> int:
        return sum(each() is not None for each in self.engines)

    def Runtime(self, logger: Logger) -> FakeTensorRT:
        return self

    def deserialize_cuda_engine(self, data: memoryview) -> FakeEngine | None:
        try:
            plan = json.loads(bytes(data))
        except ValueError:
            return None
        engine = self.engine(self, Path(plan["graph"]), plan["capacity"])
        self.engines.append(weakref.ref(engine))
        self.most = max(self.most, self.alive)
        return engine


class FakeEngine:
    def __init__(self, trt: FakeTensorRT, graph: Path, capacity: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        self.trt, self.capacity = trt, capacity
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        few, many = (trt.interface.table(n, capacity, n) for n in (1, 2))
        self.table = {
            name: (
                binding,
                tuple(a if a == b else -1 for a, b in zip(binding.shape, many[name].shape, strict=True)),
            )
            for name, binding in few.items()
        }
        self.num_io_tensors = len(self.table)

    def get_tensor_name(self, i: int) -> str:
        return list(self.table)[i]

    def get_tensor_shape(self, name: str) -> Sequence[int]:
        return self.table[name][1]

    def get_tensor_dtype(self, name: str) -> DataType:
        return _TYPES[self.table[name][0].dtype.name]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.OUTPUT if self.table[name][0].output else TensorIOMode.INPUT

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> FakeContext:
        assert strategy is ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        return FakeContext(self)


class FakeRuntimeCache:
    """Kernels by the names of the strategies that they were compiled for."""

    def __init__(self) -> None:
        self.kernels: set[str] = set()

    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(b"kernels "):
            return False
        self.kernels |= set(blob.decode().split()[1:])
        return True

    def serialize(self) -> bytes:
        return " ".join(["kernels", *sorted(self.kernels)]).encode()


class FakeRuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
    allocation = ExecutionContextAllocationStrategy.STATIC
    cache = FakeRuntimeCache()

    def create_runtime_cache(self) -> FakeRuntimeCache:
        return FakeRuntimeCache()

    def set_runtime_cache(self, cache: FakeRuntimeCache) -> bool:
        self.cache = cache
        return True

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.allocation = strategy


class FakeRtxEngine(FakeEngine):
    """Of TensorRT for RTX, which compiles kernels when they are first run."""

    def create_runtime_config(self) -> FakeRuntimeConfig:
        return FakeRuntimeConfig()

    def create_execution_context(self, config: FakeRuntimeConfig) -> FakeContext:  # type: ignore[override]
        context = super().create_execution_context(config.allocation)
        context.config = config
        return context


class FakeTensorRtRtx(FakeTensorRT):
    __name__ = "fake_tensorrt_rtx"
    DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy

    @property
    def engine(self) -> type[FakeEngine]:
        return FakeRtxEngine


class FakeContext:
    config: FakeRuntimeConfig | None = None

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self._profile = number
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        fixed = self._engine.table[name][1]
        self._shapes[name] = shape
        return len(shape) == len(fixed) and all(f in (-1, s) for f, s in zip(fixed, shape, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return name in self._engine.table and address != 0 and address % 64 == 0

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 77
        if self.config is not None:
            kind = self.config.dynamic_shapes_kernel_specialization_strategy
            self.config.cache.kernels.add(f"{kind.name}-{self._profile}")
        engine = self._engine
        tokens, wanted = self._shapes["input_ids"][1], self._shapes["logit_positions"][0]
        if self._profile == 1 and (tokens, wanted) != (1, 1):
            return False
        table = engine.trt.interface.table(tokens, engine.capacity, wanted)
        addresses = dict(self._addresses)
        assert set(addresses) == set(table)
        assert all(self._shapes[n] == b.shape for n, b in table.items() if not b.output)
        session = engine.session
        engine.trt.cuda.ask(lambda: _execute(session, table, addresses))
        return True


def _execute(session: Any, table: dict[str, Binding], addresses: dict[str, int]) -> None:
    binding = session.io_binding()
    for name, each in table.items():
        whole = (ctypes.c_uint8 * each.nbytes).from_address(addresses[name])
        array = np.ctypeslib.as_array(whole).view(each.dtype).reshape(each.shape)
        assert math.prod(each.shape) == array.size
        value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
        (binding.bind_ortvalue_output if each.output else binding.bind_ortvalue_input)(name, value)
    session.run_with_iobinding(binding)
