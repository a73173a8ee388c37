"""Memory of discrete NVIDIA GPUs, as NVML tells it. Unverified on a device."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """A discrete GPU; sizes in bytes."""

    name: str
    total: int
    free: int


def gpus() -> tuple[Gpu, ...]:
    """Those that NVML lists; none where `nvidia-ml-py` (extra `gpu`) or the driver is missing.

    Not for unified boards: there MemAvailable is what counts, see `edge.memory.probe`.
    """
    try:
        nvml: Any = import_module("pynvml")
    except ImportError:
        return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    try:
        return tuple(_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(i)) for i in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError:
        return ()
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, handle: Any) -> Gpu:
    name, memory = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(name.decode() if isinstance(name, bytes) else name, int(memory.total), int(memory.free))
