"""The stand-ins for CUDA and TensorRT beside the modules themselves, which can be imported where no GPU is.

Without a driver a call of `cuda.bindings` that is right in number and types of its arguments returns an error and as
many results as it always does; any other raises TypeError. What a call does is for a GPU to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from runtimes.gpu.cuda import Cuda
from runtimes.static.device import Rows
from runtimes.tensorrt import device
from tests.runtimes.tensorrt import fake_cuda, fake_trt
from tests.runtimes.tensorrt.fake_cuda import FakeCuda

Call = tuple[str, tuple[Any, ...], int]


class Recorder:
    """A `FakeCuda` with its calls: their arguments and how much they returned."""

    def __init__(self) -> None:
        self.fake = FakeCuda()
        self.asked: list[Call] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.fake, name)
        if isinstance(found, type) or not callable(found):
            return found

        def call(*arguments: Any) -> Any:
            results = found(*arguments)
            self.asked.append((name, arguments, len(results)))
            return results

        return call


def tour(gpu: Cuda) -> None:
    """Everything that Cuda can do."""
    gpu.free_bytes()
    memory, pinned = gpu.allocate(256), gpu.pinned(256)
    rows = Rows(memory, 0, 8, 16, 4)
    gpu.write(np.zeros((4, 8), np.uint8), rows)
    gpu.copy(rows, Rows(memory, 128, 8, 16, 4))
    gpu.read(rows)
    graph = gpu.capture(lambda: gpu.upload(memory.address, pinned.host, 256))
    graph.launch()
    gpu.download(pinned.host, memory.address, 256)
    graph.free()
    memory.free()
    pinned.free()
    gpu.close()


@pytest.fixture
def cudart() -> ModuleType:
    return pytest.importorskip(
        "cuda.bindings.runtime", reason="cuda-bindings is not installed: pip install 'edgewise[tensorrt]'"
    )


def real(value: Any, module: ModuleType) -> Any:
    """An argument with the module's enumerations."""
    return getattr(getattr(module, type(value).__name__), value.name) if isinstance(value, IntEnum) else value


def test_cuda_takes_every_call_that_is_made(cudart: ModuleType) -> None:
    _, gpus = cudart.cudaGetDeviceCount()
    if gpus:
        pytest.skip("there is a GPU, which addresses that are none may crash: run pytest -m gpu")
    recorder = Recorder()
    tour(Cuda(runtime=recorder))
    made = {name for name, _, _ in recorder.asked}
    stands_in = {
        name for name in dir(FakeCuda) if name.startswith("cuda") and callable(getattr(FakeCuda, name))
    }
    kinds = {name for name in stands_in if isinstance(getattr(FakeCuda, name), type)}
    assert made == stands_in - kinds - {"cudaGetErrorName"}
    for name, arguments, results in recorder.asked:
        answer = getattr(cudart, name)(*(real(value, cudart) for value in arguments))
        assert len(answer) == results, name
        assert int(answer[0]) != 0, name


def test_names_and_numbers_of_cuda(cudart: ModuleType) -> None:
    for name in ("cudaStreamNonBlocking", "cudaHostAllocMapped"):
        assert getattr(FakeCuda, name) == getattr(cudart, name)
    enumerations = [
        each for each in vars(fake_cuda).values() if isinstance(each, type) and issubclass(each, IntEnum)
    ]
    for each in enumerations:
        for member in each if each is not IntEnum else ():
            assert int(getattr(getattr(cudart, each.__name__), member.name)) == member
    assert (
        cudart.cudaGetErrorName(cudart.cudaError_t.cudaErrorMemoryAllocation)[1]
        == b"cudaErrorMemoryAllocation"
    )


@pytest.fixture(params=["tensorrt_rtx", "tensorrt"])
def trt(request: pytest.FixtureRequest) -> ModuleType:
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed")


# The classes that the stand-in's stand for.
CLASSES: list[tuple[str, type]] = [
    ("ICudaEngine", fake_trt.FakeEngine),
    ("IExecutionContext", fake_trt.FakeContext),
]
RTX: list[tuple[str, type]] = [
    ("ICudaEngine", fake_trt.FakeRtxEngine),
    ("IRuntimeConfig", fake_trt.FakeRuntimeConfig),
    ("IRuntimeCache", fake_trt.FakeRuntimeCache),
]


@pytest.mark.parametrize(("name", "stand_in"), CLASSES + RTX)
def test_tensorrt_takes_every_call_that_is_made(name: str, stand_in: type, trt: ModuleType) -> None:
    if (name, stand_in) in RTX and trt.__name__ != "tensorrt_rtx":
        pytest.skip("TensorRT for RTX alone")
    theirs = getattr(trt, name)
    for method, ours in vars(stand_in).items():
        if not method.startswith("_") and callable(ours):
            assert parameters(ours) in signatures(getattr(theirs, method)), method


def test_what_else_tensorrt_has_to_have(trt: ModuleType) -> None:
    assert isinstance(trt.ICudaEngine.num_io_tensors, property)
    assert {"INPUT", "OUTPUT"} <= set(trt.TensorIOMode.__members__)
    assert set(device._DTYPES) <= set(trt.DataType.__members__)
    assert "ON_PROFILE_CHANGE" in trt.ExecutionContextAllocationStrategy.__members__
    if trt.__name__ == "tensorrt_rtx":
        assert {"NONE", "EAGER"} <= set(trt.DynamicShapesKernelSpecializationStrategy.__members__)
        assert isinstance(trt.IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy, property)
        assert "REQUIRE_USER_ALLOCATION" in trt.BuilderFlag.__members__
    runtime = trt.Runtime(device._logger(trt))
    # No plan; and with a GPU or without, this is all that it says.
    assert runtime.deserialize_cuda_engine(memoryview(b"no plan" * 100)) is None


def parameters(method: Callable[..., Any]) -> int:
    code = method.__code__
    return code.co_argcount - 1


def signatures(method: Any) -> set[int]:
    """How many arguments a method takes, by what its documentation says of each of its forms."""
    name = method.__name__
    found = re.findall(rf"\b{name}\(self: [\w.]+((?:, \w+: [^,()]+)*)\) ->", method.__doc__)
    counts = set()
    for given in found:
        names = [part for part in given.split(", ") if part]
        counts |= set(range(sum("=" not in part for part in names), len(names) + 1))
    return counts
