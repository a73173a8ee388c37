"""NVIDIA's runtime through `cuda.bindings`: memory, one stream, graphs. Every call that it makes is made here.

Unverified on device: written against the package's documented calls, tried with a stand-in for them.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from edge.errors import EngineFailed, GpuMissing, MemoryBudgetError, MissingExtra
from runtimes.static.device import Bytes, Memory, Rows

_MODULE = "cuda.bindings.runtime"


class Cuda:
    """A GPU, its primary context, and a stream in which all that is asked of it happens in order."""

    def __init__(self, number: int = 0, runtime: Any = None) -> None:
        """`runtime` takes the place of `cuda.bindings.runtime`.

        Raises:
            MissingExtra: cuda-bindings is not installed.
            GpuMissing: there is no such GPU, or no driver for it.
        """
        self._rt = runtime if runtime is not None else _runtime()
        # What another thread asks for while a graph is captured would be in the graph.
        self._asking = threading.RLock()
        count = self._count()
        if not 0 <= number < count:
            raise GpuMissing(f"there is no GPU {number}: CUDA sees {count}; nvidia-smi lists them")
        self._do("cudaSetDevice", number)
        attributes = self._rt.cudaDeviceAttr
        major, minor, integrated = (
            int(self._do("cudaDeviceGetAttribute", getattr(attributes, f"cudaDevAttr{name}"), number))
            for name in ("ComputeCapabilityMajor", "ComputeCapabilityMinor", "Integrated")
        )
        self.sm = f"{major}.{minor}"
        """The compute capability, such as 8.7."""
        self.unified = bool(integrated)
        """Whether its memory is the host's."""
        self.stream = int(self._do("cudaStreamCreateWithFlags", self._rt.cudaStreamNonBlocking))

    def free_bytes(self) -> int:
        """Bytes of its memory that nobody has."""
        free, _ = self._do("cudaMemGetInfo")
        return int(free)

    def own_free(self) -> int | None:
        """The same where its memory is its own; None where it is the host's, of which CUDA does not know."""
        return None if self.unified else self.free_bytes()

    def allocate(self, nbytes: int) -> CudaMemory:
        """Memory of zeros.

        Raises:
            MemoryBudgetError: there is none left.
        """
        address = int(self._do("cudaMalloc", nbytes))
        memory = CudaMemory(nbytes, address, lambda: self._do("cudaFree", address))
        try:
            self._do("cudaMemsetAsync", address, 0, nbytes, self.stream)
        except BaseException:
            memory.free()
            raise
        return memory

    def pinned(self, nbytes: int) -> PinnedMemory:
        """Memory of the host that the GPU reaches as well.

        Raises:
            MemoryBudgetError
        """
        host = int(self._do("cudaHostAlloc", nbytes, self._rt.cudaHostAllocMapped))
        try:
            address = int(self._do("cudaHostGetDevicePointer", host, 0))
        except BaseException:
            self._do("cudaFreeHost", host)
            raise
        return PinnedMemory(nbytes, host, address, lambda: self._do("cudaFreeHost", host))

    def copy(self, source: Rows, target: Rows) -> None:
        """On the device."""
        assert (source.width, source.count) == (target.width, target.count)
        self._copy(_address(target), target.pitch, _address(source), source.pitch, source, "DeviceToDevice")

    def write(self, data: Bytes, target: Rows) -> None:
        """From memory of the host, which may change once this has returned."""
        data = np.ascontiguousarray(data)
        assert data.shape == (target.count, target.width)
        self._copy(_address(target), target.pitch, data.ctypes.data, target.width, target, "HostToDevice")
        self.synchronize()

    def read(self, source: Rows) -> Bytes:
        """To memory of the host."""
        data: Bytes = np.empty((source.count, source.width), np.uint8)
        self._copy(data.ctypes.data, source.width, _address(source), source.pitch, source, "DeviceToHost")
        self.synchronize()
        return data

    def upload(self, target: int, source: int, nbytes: int) -> None:
        """From pinned memory to the device; `source` must stay as it is until `synchronize`."""
        self._do("cudaMemcpyAsync", target, source, nbytes, self._kind("HostToDevice"), self.stream)

    def download(self, target: int, source: int, nbytes: int) -> None:
        """From the device to pinned memory, where it is behind `synchronize`."""
        self._do("cudaMemcpyAsync", target, source, nbytes, self._kind("DeviceToHost"), self.stream)

    def synchronize(self) -> None:
        """Wait for all that was asked for."""
        self._do("cudaStreamSynchronize", self.stream)

    def capture(self, work: Callable[[], None]) -> CudaGraph:
        """What `work` asks for, as a graph; nothing of it has happened.

        Raises:
            EngineFailed: some of it cannot be in a graph.
        """
        mode = self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        with self._asking:
            self._do("cudaStreamBeginCapture", self.stream, mode)
            try:
                work()
            except BaseException:
                # The stream is of no use until its capture has ended, which makes a graph all the same.
                _, graph = self._rt.cudaStreamEndCapture(self.stream)
                if graph is not None and int(graph):
                    self._rt.cudaGraphDestroy(graph)
                raise
            graph = self._do("cudaStreamEndCapture", self.stream)
        try:
            ready = self._do("cudaGraphInstantiate", graph, 0)
        finally:
            self._do("cudaGraphDestroy", graph)
        return CudaGraph(
            lambda: self._do("cudaGraphLaunch", ready, self.stream),
            lambda: self._do("cudaGraphExecDestroy", ready),
        )

    def close(self) -> None:
        """Give the stream back; more than once does nothing."""
        stream, self.stream = self.stream, 0
        if stream:
            self._do("cudaStreamDestroy", stream)

    def _count(self) -> int:
        error, count = self._rt.cudaGetDeviceCount()
        if int(error) != 0:
            raise GpuMissing(
                f"CUDA finds no GPU ({self._name(error)}); nvidia-smi tells whether a driver is there, "
                "and edge doctor what this machine has"
            )
        return int(count)

    def _copy(self, target: int, to_pitch: int, source: int, from_pitch: int, rows: Rows, kind: str) -> None:
        self._do(
            "cudaMemcpy2DAsync",
            target,
            to_pitch,
            source,
            from_pitch,
            rows.width,
            rows.count,
            self._kind(kind),
            self.stream,
        )

    def _kind(self, name: str) -> Any:
        return getattr(self._rt.cudaMemcpyKind, f"cudaMemcpy{name}")

    def _do(self, name: str, *arguments: Any) -> Any:
        """Call a function; what it returns behind the error.

        Raises:
            MemoryBudgetError: it says that there is no memory.
            EngineFailed: it says anything else.
        """
        with self._asking:
            error, *results = getattr(self._rt, name)(*arguments)
        if int(error) == int(self._rt.cudaError_t.cudaErrorMemoryAllocation):
            raise MemoryBudgetError(
                "the host's memory has no more that can be pinned for the GPU; close other programs"
                if name == "cudaHostAlloc"
                else "the GPU has no memory left; close other programs that use it, or use a shorter context"
            )
        if int(error) != 0:
            raise EngineFailed(f"{name} failed: {self._name(error)}; load the artifact again")
        if not results:
            return None
        return results[0] if len(results) == 1 else tuple(results)

    def _name(self, error: Any) -> str:
        _, name = self._rt.cudaGetErrorName(error)
        return name.decode() if isinstance(name, bytes) else str(name)


class CudaMemory:
    """See `runtimes.static.device.Memory`; at `address` of the device."""

    def __init__(self, nbytes: int, address: int, release: Callable[[], None]) -> None:
        self.nbytes = nbytes
        self.address = address
        self._release: Callable[[], None] | None = release

    def free(self) -> None:
        """See `Memory.free`; what is under way on it ends first."""
        release, self._release = self._release, None
        self.nbytes = self.address = 0
        if release is not None:
            release()


class PinnedMemory(CudaMemory):
    """Also at `host`, as memory of the host."""

    def __init__(self, nbytes: int, host: int, address: int, release: Callable[[], None]) -> None:
        super().__init__(nbytes, address, release)
        self.host = host

    def array(self) -> Bytes:
        """The memory itself, uint8 [nbytes]; not to be used once it is given back."""
        whole = (ctypes.c_uint8 * self.nbytes).from_address(self.host)
        found: Bytes = np.ctypeslib.as_array(whole)
        return found


class CudaGraph:
    """Work that is asked for by one call."""

    def __init__(self, launch: Callable[[], None], release: Callable[[], None]) -> None:
        self.launch = launch
        """Ask for all of it."""
        self._release: Callable[[], None] | None = release

    def free(self) -> None:
        """Give it back; more than once does nothing."""
        release, self._release = self._release, None
        if release is not None:
            release()


def address(memory: Memory) -> int:
    """Where memory of the GPU is."""
    assert isinstance(memory, CudaMemory)
    return memory.address


def _address(rows: Rows) -> int:
    end = rows.offset + (rows.count - 1) * rows.pitch + rows.width
    assert 0 <= rows.offset <= end <= rows.memory.nbytes
    return address(rows.memory) + rows.offset


def _runtime() -> Any:
    try:
        return import_module(_MODULE)
    except ImportError as e:
        raise MissingExtra(
            f"cuda-bindings is not installed ({e}); pip install cuda-bindings, of the major version of the driver's "
            "CUDA: 'cuda-bindings<13' for CUDA 12"
        ) from None
