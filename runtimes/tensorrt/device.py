"""A GPU with TensorRT: engines by bucket, of which one is loaded, and a context for each of its profiles.

Unverified on device: written against the documented calls of TensorRT 10, which TensorRT for RTX shares, and tried with
a stand-in for them.
"""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge.errors import Cancelled, EngineFailed, MemoryBudgetError
from runtimes.gpu.cuda import Cuda, CudaGraph, address
from runtimes.gpu.on_cuda import OnCuda
from runtimes.gpu.staging import Stage, stage
from runtimes.protocol import CancelToken, Logits
from runtimes.static.bindings import LOGITS, Binding, Found, Interface, check_table
from runtimes.static.device import Memory, Runner
from runtimes.static.feeds import Feeds
from runtimes.tensorrt.jit_cache import JitCache
from runtimes.tensorrt.plans import Plan, common, staged

_DTYPES = {"INT64": "int64", "BOOL": "bool", "HALF": "float16", "FLOAT": "float32", "INT8": "int8"}


class Loaded:
    """The engine of a bucket, in the memory of the GPU, with room for what its calls are fed and give."""

    def __init__(self, trt: Any, runtime: Any, cuda: Cuda, plan: Plan, interface: Interface) -> None:
        """Raises EngineFailed, ArtifactCorrupt, MemoryBudgetError."""
        self.plan = plan
        free = cuda.own_free()
        if free is not None and plan.nbytes > free:
            raise MemoryBudgetError(
                f"{plan.path} takes {plan.nbytes / 2**20:.0f} MiB, and the GPU has {free / 2**20:.0f} MiB; "
                "close other programs that use it, or build for a smaller context"
            )
        with (
            plan.path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole,
            memoryview(whole)[plan.offset : plan.offset + plan.nbytes] as data,
        ):
            self.engine = runtime.deserialize_cuda_engine(data)
        if self.engine is None:
            raise EngineFailed(
                f"TensorRT {trt.__version__} does not take {plan.path}; its messages say why. Build it again"
            )
        prefill = plan.profiles[plan.prefill]
        # What one call has by number is free in an engine for prefill.
        check_table(
            interface.table(prefill.tokens, plan.capacity, prefill.logits),
            _found(trt, self.engine),
            str(plan.path),
        )
        self.contexts = {}
        self.bound: weakref.WeakSet[_TensorRtRunner] = weakref.WeakSet()
        """Those that have run on it: each may have a graph of its calls."""
        self.jit: JitCache | None = JitCache(trt, self.engine, plan.path)
        self._decoded = False
        for is_decode, number in ((False, plan.prefill), (True, plan.decode)):
            context = self.jit.context(steady=is_decode)
            if context is None or not context.set_optimization_profile_async(number, cuda.stream):
                raise MemoryBudgetError(f"the GPU has no memory to run {plan.path}; use a shorter context")
            self.contexts[is_decode] = context
        self.stages: dict[str, Stage] = {}
        try:
            for binding in staged(interface, plan):
                self.stages[binding.name] = stage(cuda, binding.nbytes)
        except BaseException:
            self.free()
            raise

    def ran(self, runner: _TensorRtRunner, decode: bool) -> None:
        """Take down a call that has ended."""
        self.bound.add(runner)
        if decode and not self._decoded and self.jit is not None:
            # By now all is compiled. Once it is kept a process that is killed does not lose it.
            self._decoded = True
            self.jit.save()

    def free(self) -> None:
        """Give everything back; TensorRT does so where nobody names its objects any more."""
        for runner in list(self.bound):
            runner.drop()
        self.bound.clear()
        for each in self.stages.values():
            each.free()
        self.stages = {}
        if self.jit is not None:
            self.jit.save()
        self.jit = None
        self.contexts = {}
        self.engine = None


class TensorRtDevice(OnCuda):
    """See `runtimes.static.device.Device`. `trt` is the module tensorrt or tensorrt_rtx; `plans` as `consistent`."""

    def __init__(self, trt: Any, cuda: Cuda, plans: Sequence[Plan], interface: Interface) -> None:
        super().__init__(cuda)
        self.version = str(trt.__version__)
        self.prefill = common(plans)
        self.capacities = tuple(plan.capacity for plan in plans)
        self.no_graph = ""
        """Why decoding is not captured as a graph; empty where it is, or was not tried yet."""
        self._trt, self._interface = trt, interface
        self._plans = {plan.capacity: plan for plan in plans}
        self._runtime = trt.Runtime(_logger(trt))
        self._loaded: Loaded | None = None

    @property
    def loaded(self) -> int:
        """See `Device.loaded`."""
        return self._loaded.plan.capacity if self._loaded is not None else 0

    def runner(self, capacity: int, decode: bool, memory: Mapping[str, Memory]) -> Runner:
        """See `Device.runner`."""
        return _TensorRtRunner(self, self.cuda, capacity, decode, memory)

    def load(self, capacity: int) -> Loaded:
        """The engine of a bucket. Another one goes first: weights are never there twice."""
        if self.loaded != capacity:
            self._unload()
            plan = self._plans[capacity]
            self._loaded = Loaded(self._trt, self._runtime, self.cuda, plan, self._interface)
        assert self._loaded is not None
        return self._loaded

    def close(self) -> None:
        """See `Device.close`."""
        self._unload()
        self._runtime = None
        self.cuda.close()

    def _unload(self) -> None:
        if self._loaded is not None:
            self.cuda.synchronize()
            self._loaded.free()
        self._loaded = None


class _TensorRtRunner:
    """Calls of one profile on one sequence's memory; those of a single token are a graph from the second on."""

    def __init__(
        self, device: TensorRtDevice, cuda: Cuda, capacity: int, decode: bool, memory: Mapping[str, Memory]
    ) -> None:
        self._device, self._cuda, self._capacity = device, cuda, capacity
        self._decode, self._memory = decode, memory
        # Of the engine that is loaded: another has other addresses.
        self._graph: CudaGraph | None = None

    def run(
        self,
        feeds: Feeds,
        table: Mapping[str, Binding],
        cancel: CancelToken | None,
        behind: Callable[[], None],
    ) -> Logits:
        """See `Runner.run`. What a GPU has begun it ends: a run is cancelled between chunks."""
        if cancel is not None:
            # Nothing to stop, but whoever cancels is told when a call begins and ends, as by every engine.
            cancel.on_cancel(lambda: None)
        try:
            logits = self._run(feeds, table, behind)
        finally:
            if cancel is not None:
                cancel.on_cancel(None)
        if cancel is not None and cancel.cancelled:
            raise Cancelled("the run was cancelled")
        return logits

    def drop(self) -> None:
        """Give the graph back; the next call is the first one again."""
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.free()

    def __del__(self) -> None:
        if self.__dict__.get("_graph") is not None:
            self.drop()

    def _run(self, feeds: Feeds, table: Mapping[str, Binding], behind: Callable[[], None]) -> Logits:
        loaded = self._device.load(self._capacity)
        for name, array in feeds.items():
            loaded.stages[name].array(table[name])[...] = array
        try:
            # TensorRT settles what it put off in a first call, which cannot be captured.
            if self in loaded.bound and (self._graph is not None or self._capture(loaded, table)):
                assert self._graph is not None
                self._graph.launch()
            else:
                self._enqueue(loaded, table)
            # Asked for while the GPU computes; all of a step is waited for once.
            behind()
        finally:
            # Whatever failed: the next call writes where this one reads.
            self._cuda.synchronize()
        loaded.ran(self, self._decode)
        return loaded.stages[LOGITS].array(table[LOGITS])

    def _capture(self, loaded: Loaded, table: Mapping[str, Binding]) -> bool:
        """Whether there is a graph of a call of one token now."""
        if not self._decode or self._device.no_graph:
            return False
        try:
            self._graph = self._cuda.capture(lambda: self._enqueue(loaded, table))
        except (EngineFailed, MemoryBudgetError) as e:
            self._device.no_graph = str(e)
        return self._graph is not None

    def _enqueue(self, loaded: Loaded, table: Mapping[str, Binding]) -> None:
        """Ask for a call, and for the copies before and behind it."""
        context = loaded.contexts[self._decode]
        for name, binding in table.items():
            staged = loaded.stages.get(name)
            if staged is not None and not binding.output:
                staged.upload(binding.nbytes)
            if not binding.output and not context.set_input_shape(name, binding.shape):
                raise EngineFailed(f"TensorRT refuses {name} of shape {list(binding.shape)}; build it again")
            where = staged.address if staged is not None else address(self._memory[binding.buffer])
            if not context.set_tensor_address(name, where):
                raise EngineFailed(f"TensorRT refuses the memory for {name}; load the artifact again")
        if not context.execute_async_v3(self._cuda.stream):
            raise EngineFailed(f"TensorRT failed to run {loaded.plan.path}; its messages say why")
        loaded.stages[LOGITS].download(table[LOGITS].nbytes)


def _found(trt: Any, engine: Any) -> list[Found]:
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    return [
        Found(
            name,
            tuple(engine.get_tensor_shape(name)),
            _dtype(trt, engine.get_tensor_dtype(name)),
            engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT,
        )
        for name in names
    ]


def _dtype(trt: Any, dtype: Any) -> str:
    """NumPy's name of a type of TensorRT's."""
    known = {name: getattr(trt.DataType, name) for name in _DTYPES}
    return next((_DTYPES[name] for name, value in known.items() if value == dtype), str(dtype))


# TensorRT takes one logger a process.
_LOGGERS: dict[str, Any] = {}


def _logger(trt: Any) -> Any:
    if trt.__name__ not in _LOGGERS:
        _LOGGERS[trt.__name__] = trt.Logger(trt.Logger.ERROR)
    return _LOGGERS[trt.__name__]
