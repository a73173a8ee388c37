"""A stand-in for `cuda.bindings.runtime` whose device is the host's memory.

It is as strict as the real one where that costs little: addresses that nobody has, streams that are not there, memory
that runs out, and work in a capture, which is put down and does not happen.
"""

# Names are those of the module that it stands in for.
# ruff: noqa: N801, N802, N815

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100
    cudaErrorStreamCaptureUnsupported = 900


class cudaDeviceAttr(IntEnum):
    cudaDevAttrIntegrated = 18
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


Work = Callable[[], None]


class FakeCuda:
    """The module. `memory` bytes of the device can be taken at once, less those that `others` have."""

    cudaError_t = cudaError_t
    cudaDeviceAttr = cudaDeviceAttr
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = 1
    cudaHostAllocMapped = 2

    def __init__(
        self, sm: str = "8.9", *, unified: bool = False, memory: int = 1 << 30, gpus: int = 1
    ) -> None:
        self.sm, self.unified, self.memory, self.gpus = sm, unified, memory, gpus
        self.others = 0
        self.capturable = True
        self.held: dict[int, np.ndarray] = {}
        self.pinned: set[int] = set()
        self.calls: list[str] = []
        self._capture: list[Work] | None = None
        self._graphs: dict[int, list[Work]] = {}
        self._ready: dict[int, list[Work]] = {}

    def ask(self, work: Work) -> None:
        """Do it, or put it down for a graph."""
        if self._capture is None:
            work()
        else:
            self._capture.append(work)

    def count(self, name: str) -> int:
        return self.calls.count(name)

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return (cudaError_t(0), self.gpus) if self.gpus else (cudaError_t.cudaErrorNoDevice, None)

    def cudaGetErrorName(self, error: cudaError_t) -> tuple[Any, ...]:
        return cudaError_t(0), error.name.encode()

    def cudaSetDevice(self, number: int) -> tuple[Any, ...]:
        return (cudaError_t(0),)

    def cudaDeviceGetAttribute(self, attribute: cudaDeviceAttr, number: int) -> tuple[Any, ...]:
        major, minor = map(int, self.sm.split("."))
        values = {18: int(self.unified), 75: major, 76: minor}
        return cudaError_t(0), values[attribute]

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return cudaError_t(0), self._left(), self.memory

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        return cudaError_t(0), 77

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        return (cudaError_t(0 if stream == 77 else 1),)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        self.calls.append("synchronize")
        return (
            cudaError_t.cudaErrorStreamCaptureUnsupported if self._capture is not None else cudaError_t(0),
        )

    def cudaMalloc(self, nbytes: int) -> tuple[Any, ...]:
        if nbytes > self._left():
            return cudaError_t.cudaErrorMemoryAllocation, 0
        return self._take(nbytes)

    def _take(self, nbytes: int) -> tuple[Any, ...]:
        # No zeros: who wants them asks for them.
        memory = np.full(nbytes + 256, 0xFF, np.uint8)
        address = memory.ctypes.data + -memory.ctypes.data % 256
        self.held[address] = memory
        return cudaError_t(0), address

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        return (cudaError_t(0 if self.held.pop(address, None) is not None else 1),)

    def cudaHostAlloc(self, nbytes: int, flags: int) -> tuple[Any, ...]:
        error, address = self._take(nbytes)
        self.pinned.add(address)
        return error, address

    def cudaHostGetDevicePointer(self, host: int, flags: int) -> tuple[Any, ...]:
        return cudaError_t(0), host

    def cudaFreeHost(self, host: int) -> tuple[Any, ...]:
        self.pinned.discard(host)
        return self.cudaFree(host)

    def cudaMemsetAsync(self, address: int, value: int, nbytes: int, stream: int) -> tuple[Any, ...]:
        assert stream == 77
        self.ask(lambda: ctypes.memset(address, value, nbytes) and None)
        return (cudaError_t(0),)

    def cudaMemcpyAsync(
        self, target: int, source: int, nbytes: int, kind: cudaMemcpyKind, stream: int
    ) -> tuple[Any, ...]:
        assert stream == 77
        self.calls.append(kind.name)
        self.ask(lambda: ctypes.memmove(target, source, nbytes) and None)
        return (cudaError_t(0),)

    def cudaMemcpy2DAsync(
        self,
        target: int,
        to_pitch: int,
        source: int,
        from_pitch: int,
        width: int,
        height: int,
        kind: cudaMemcpyKind,
        stream: int,
    ) -> tuple[Any, ...]:
        assert stream == 77
        self.calls.append(f"{kind.name}2D")
        if width > min(to_pitch, from_pitch):
            return (cudaError_t.cudaErrorInvalidValue,)

        def work() -> None:
            for row in range(height):
                ctypes.memmove(target + row * to_pitch, source + row * from_pitch, width)

        self.ask(work)
        return (cudaError_t(0),)

    def cudaStreamBeginCapture(self, stream: int, mode: Any) -> tuple[Any, ...]:
        self._capture = []
        return (cudaError_t(0),)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        work, self._capture = self._capture, None
        assert work is not None
        if not self.capturable:
            return cudaError_t.cudaErrorStreamCaptureUnsupported, None
        self.calls.append("capture")
        self._graphs[len(self.calls)] = work
        return cudaError_t(0), len(self.calls)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        self.calls.append("instantiate")
        self._ready[len(self.calls)] = self._graphs[graph]
        return cudaError_t(0), len(self.calls)

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        del self._graphs[graph]
        return (cudaError_t(0),)

    def cudaGraphLaunch(self, ready: int, stream: int) -> tuple[Any, ...]:
        self.calls.append("launch")
        for work in self._ready[ready]:
            work()
        return (cudaError_t(0),)

    def cudaGraphExecDestroy(self, ready: int) -> tuple[Any, ...]:
        del self._ready[ready]
        return (cudaError_t(0),)

    def graphs(self) -> int:
        """Those that can be launched."""
        return len(self._ready)

    def _left(self) -> int:
        # Pinned memory is the host's, which is the device's where there is one.
        taken = [m.nbytes - 256 for a, m in self.held.items() if self.unified or a not in self.pinned]
        return max(0, self.memory - self.others - sum(taken))
