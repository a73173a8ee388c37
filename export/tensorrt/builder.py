"""What is asked of TensorRT: parse, check, build. The modules `tensorrt` and `tensorrt_rtx` have the same API for it.

Only `tensorrt_rtx` was there to be tried: with `tensorrt`, on a Jetson, this is unverified on device.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from edge.errors import EngineFailed, MemoryBudgetError
from export.graph.weights_file import writing
from export.tensorrt.graph import input_shapes
from export.tensorrt.job import Built, Job
from export.tensorrt.nested import Nested
from export.tensorrt.place import ELSEWHERE
from export.usage import peak_rss_bytes
from runtimes.tensorrt.header import PLAN_OFFSET, TENSORRT_RTX, title

# How TensorRT says that an input has no effect: it is dropped, and all goes on.
DROPPED = "Unused Input"
# What it says of every profile of an engine, in a line of its own.
_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")
_NO_MEMORY = (
    "OutOfMemory",
    "out of memory",
    "bad_alloc",
    "Insufficient memory",
    "memory allocation",
    # A thread that gets no stack.
    "Resource temporarily unavailable",
)
_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.INT8: "INT8",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
}


class Builder:
    """TensorRT's builder; one a process, since TensorRT takes one logger."""

    def __init__(self, trt: Any) -> None:
        self._trt = trt
        self.title = title(trt.__name__, trt.__version__)
        self.lines: list[str] = []
        """What TensorRT warned of."""
        self._activations: list[int] = []
        self._log = _log(trt, self.lines, self._activations)
        self._builder = trt.Builder(self._log)

    def network(self, model: onnx.ModelProto, path: Path) -> Any:
        """The network of a graph whose weights are in files beside `path`, with the graph's inputs and outputs.

        Raises:
            EngineFailed: TensorRT does not read it, or reads something else.
        """
        self.lines.clear()
        # Types are the graph's: TensorRT 10 would otherwise choose its own, and want a flag for each.
        typed = getattr(self._trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = self._builder.create_network(0 if typed is None else 1 << int(typed))
        # The network holds weights that are the parser's.
        parser = self._parser = self._trt.OnnxParser(network, self._log)
        # TensorRT maps the weights file: it is not copied here.
        if not parser.parse(model.SerializeToString(), str(path)):
            errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
            raise EngineFailed(f"{path}: {self.title} does not read it: {self._told(errors)}")
        self._check_warnings(path)
        _check_values("input", model.graph.input, [network.get_input(i) for i in range(network.num_inputs)])
        _check_values(
            "output", model.graph.output, [network.get_output(i) for i in range(network.num_outputs)]
        )
        return network

    def build(
        self, network: Any, model: onnx.ModelProto, job: Job, progress: Callable[[str, float], bool]
    ) -> Built:
        """Write the plan to `job.out`, behind a page of zeros; `progress` says False where nobody wants it any more.

        Raises:
            EngineFailed: TensorRT builds none.
            MemoryBudgetError: it has not the memory to.
            StorageError: the disk is full or refuses.
        """
        config = self._config(model, job, progress)
        self._activations.clear()
        refused: list[OSError] = []
        with Path(job.out).open("r+b", buffering=0) as file:
            file.seek(PLAN_OFFSET)
            digest, size = hashlib.sha256(), 0

            def write(data: Any) -> int:
                nonlocal size
                left = memoryview(data).cast("B")
                try:
                    while left:
                        left = left[file.write(left) :]
                except OSError as e:
                    # TensorRT calls this, and does not pass it on.
                    refused.append(e)
                    return 0
                digest.update(data)
                size += len(data)
                return len(data)

            try:
                whole = self._write_plan(network, config, write)
            except MemoryError:
                whole = False
                self.lines.append("out of memory")
        if refused:
            with writing(Path(job.out), ELSEWHERE):
                raise refused[0]
        self._check_warnings(Path(job.graph))
        if not whole or not size:
            if any(words in line for line in self.lines for words in _NO_MEMORY):
                raise MemoryBudgetError(
                    f"{job.graph}: {self.title} ran out of memory while it built for a cache of {job.capacity} tokens; "
                    "give it more with --memory, or build a smaller model"
                )
            raise EngineFailed(f"{job.graph}: {self.title} builds no engine: {self._told(self.lines)}")
        return Built(
            version=str(self._trt.__version__),
            plan_bytes=size,
            plan_sha256=digest.hexdigest(),
            activation_bytes=sum(self._activations),
            peak_rss_bytes=peak_rss_bytes(),
        )

    def _write_plan(self, network: Any, config: Any, write: Callable[[Any], int]) -> bool:
        trt, builder = self._trt, self._builder
        # Straight to the file, where this version can.
        if hasattr(trt, "IStreamWriter") and hasattr(builder, "build_serialized_network_to_stream"):
            return bool(builder.build_serialized_network_to_stream(network, config, _stream(trt, write)))
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            return False
        write(memoryview(plan))
        return True

    def _config(self, model: onnx.ModelProto, job: Job, progress: Callable[[str, float], bool]) -> Any:
        trt, config = self._trt, self._builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace)
        config.progress_monitor = self._monitor = _monitor(trt, progress)
        for shapes in job.profiles:
            profile = self._builder.create_optimization_profile()
            for name, (least, most) in input_shapes(model, job.capacity, shapes).items():
                profile.set_shape(name, least, most, most)
            config.add_optimization_profile(profile)
        # Without it an engine may allocate while it runs, and decoding could not be captured as a CUDA graph.
        if (flag := getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)) is not None:
            config.set_flag(flag)
        # TensorRT builds for the GPU that is there; for RTX the targets are said, or what none can do is accepted.
        if job.flavour == TENSORRT_RTX:
            config.num_compute_capabilities = len(job.sms)
            for i, sm in enumerate(job.sms):
                config.set_compute_capability(self._capability(sm), i)
        return config

    def _capability(self, sm: str) -> Any:
        name = f"SM{sm.replace('.', '')}"
        known = self._trt.ComputeCapability.__members__
        if name not in known:
            can = ", ".join(each.lower() for each in known if each.startswith("SM"))
            raise EngineFailed(
                f"{self.title} builds for {can}, not for {name.lower()}; upgrade it, or choose among those"
            )
        return known[name]

    def _check_warnings(self, path: Path) -> None:
        if dropped := [line for line in self.lines if DROPPED in line]:
            raise EngineFailed(
                f"{path}: {self.title} drops an input in silence, and would compute something else: {dropped[0]}"
            )

    def _told(self, lines: Sequence[str]) -> str:
        told = [" ".join(line.split())[:400] for line in lines or self.lines]
        return "; ".join(dict.fromkeys(told[-3:])) or "it does not say why"


def _check_values(what: str, wanted: Any, tensors: Sequence[Any]) -> None:
    """Names, types and shapes of a network are those of the graph."""
    found = {tensor.name: (tensor.dtype.name, tuple(tensor.shape)) for tensor in tensors}
    asked = {value.name: _type_and_shape(value) for value in wanted}
    for name in sorted({*found, *asked}):
        if found.get(name) != asked.get(name):
            raise EngineFailed(
                f"{what} {name} is {found.get(name, 'missing')} in TensorRT's network, and "
                f"{asked.get(name, 'missing')} in the graph; export the artifact again"
            )


def _type_and_shape(value: onnx.ValueInfoProto) -> tuple[str, tuple[int, ...]]:
    tensor = value.type.tensor_type
    shape = tuple(-1 if dim.dim_param else int(dim.dim_value) for dim in tensor.shape.dim)
    return _TYPES[tensor.elem_type], shape


def _log(trt: Any, lines: list[str], activations: list[int]) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, line: str) -> None:
            if found := _ACTIVATIONS.search(line):
                activations.append(int(found[1]))
            # Said of every input of whole numbers; they are bound as int64.
            if severity <= trt.ILogger.WARNING and "has Int64 binding" not in line:
                lines.append(line)

    return Log()


def _stream(trt: Any, write: Callable[[Any], int]) -> Any:
    class Stream(trt.IStreamWriter):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IStreamWriter.__init__(self)

        def write(self, data: Any) -> int:
            return write(data)

    return Stream()


def _monitor(trt: Any, progress: Callable[[str, float], bool]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phases = Nested()

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._phases.start(name, steps)

        def phase_finish(self, name: str) -> None:
            self._phases.finish(name)

        def step_complete(self, name: str, step: int) -> bool:
            self._phases.step(name, step)
            return progress(self._phases.stage, self._phases.fraction)

    return Monitor()
