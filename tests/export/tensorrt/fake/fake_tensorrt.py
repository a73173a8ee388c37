"""The part of TensorRT's API that a build uses, without TensorRT; `plant` makes modules of its names.

FAKE_TENSORRT says how it is to behave: "drop" an input in silence, "refuse" or "reshape" the graph, "none" for no plan,
"memory" to run out of it, "die" or "killed" for the process to end, else a plan of the graph's names.
"""

from __future__ import annotations

import enum
import os
import signal
import types
from pathlib import Path
from typing import Any

import onnx

_MODE = os.environ.get("FAKE_TENSORRT", "")


class DataType(enum.Enum):
    FLOAT, HALF, INT8, INT64, BOOL = range(5)


class ILogger:
    ERROR, WARNING, INFO = 1, 2, 3


class IProgressMonitor:
    pass


class ComputeCapability(enum.Enum):
    SM86, SM89, SM120 = 86, 89, 120


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class BuilderFlag(enum.Enum):
    TF32 = 7


_TYPES = {1: DataType.FLOAT, 10: DataType.HALF, 3: DataType.INT8, 7: DataType.INT64, 9: DataType.BOOL}


class Tensor:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self.name, kind = value.name, value.type.tensor_type
        self.dtype = _TYPES[kind.elem_type]
        self.shape = tuple(-1 if d.dim_param else d.dim_value for d in kind.shape.dim)


class Network:
    inputs: list[Tensor]
    outputs: list[Tensor]

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    def get_input(self, i: int) -> Tensor:
        return self.inputs[i]

    def get_output(self, i: int) -> Tensor:
        return self.outputs[i]


class Error:
    def __init__(self, words: str) -> None:
        self._words = words

    def desc(self) -> str:
        return self._words


class OnnxParser:
    num_errors = 1

    def __init__(self, network: Network, log: Any) -> None:
        self._network, self._log = network, log
        self._refusal = "Non-zero zero point is not supported"

    def get_error(self, i: int) -> Error:
        return Error(self._refusal)

    def parse(self, data: bytes, path: str) -> bool:
        assert Path(path).is_file()
        graph = onnx.load_model_from_string(data).graph
        self._network.inputs = [Tensor(v) for v in graph.input]
        self._network.outputs = [Tensor(v) for v in graph.output]
        if _MODE == "drop":
            self._log.log(ILogger.WARNING, "Unused Input: write_indices")
        if _MODE == "reshape":
            self._network.inputs[0].shape = (1, 7)
        self._log.log(ILogger.WARNING, "input_ids has Int64 binding")
        if not all((each > 0).all() for each in _scales(graph, Path(path).parent)):
            self._refusal = "Scale coefficients must all be positive"
            return False
        return _MODE != "refuse"


def _scales(graph: onnx.GraphProto, folder: Path) -> list[Any]:
    names = {node.input[1] for node in graph.node if node.op_type == "DequantizeLinear"}
    return [
        onnx.numpy_helper.to_array(tensor, str(folder))
        for tensor in graph.initializer
        if tensor.name in names
    ]


class Profile(dict[str, Any]):
    def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
        self[name] = (least, best, most)


class Config:
    progress_monitor: Any = None
    num_compute_capabilities = 0

    def __init__(self) -> None:
        self.profiles: list[Profile] = []
        self.sms: list[str] = []
        self.limits: dict[Any, int] = {}

    def set_memory_pool_limit(self, pool: Any, limit: int) -> None:
        self.limits[pool] = limit

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def set_compute_capability(self, sm: Any, i: int) -> None:
        assert i < self.num_compute_capabilities
        self.sms.append(sm.name)


class Builder:
    def __init__(self, log: Any) -> None:
        self._log = log

    def create_network(self, flags: int) -> Network:
        assert flags == 2
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 2)
        monitor.step_complete("Building engine", 0)
        if _MODE == "die":
            os.abort()
        if _MODE == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if _MODE == "memory":
            self._log.log(ILogger.ERROR, "Requested amount of memory could not be allocated: OutOfMemory")
            return None
        if _MODE == "none":
            self._log.log(ILogger.ERROR, "Cannot compile for target(s) sm75")
            return None
        for number, _ in enumerate(config.profiles, 1):
            self._log.log(ILogger.INFO, f"Total Activation Memory: {number * 1024} bytes")
        monitor.phase_finish("Building engine")
        names = [tensor.name for tensor in (*network.inputs, *network.outputs)]
        shapes = [sorted(profile.items()) for profile in config.profiles]
        return repr((names, shapes, config.sms, sorted(config.limits.values()))).encode()


def fill(module: types.ModuleType | dict[str, Any], version: str) -> None:
    """Make the namespace of a module one of TensorRT."""
    assert isinstance(module, dict)
    module.update({k: v for k, v in globals().items() if not k.startswith("_")}, __version__=version)
