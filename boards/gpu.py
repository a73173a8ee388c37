"""NVIDIA GPUs, as NVML or the driver's files in /proc tell of them. Unverified on a device."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from boards.files import SystemFiles

_DRIVER = "proc/driver/nvidia/gpus"


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU; sizes in bytes."""

    name: str
    total: int | None
    """Its own memory; None where it has none (it shares the system's), or nobody told."""
    free: int | None
    sm: str | None = None
    """Compute capability, such as 8.9."""
    source: str = "NVML"


def gpus() -> tuple[Gpu, ...]:
    """Those that NVML lists; none where `nvidia-ml-py` (extra `gpu`) or the driver is missing.

    Not for memory on unified boards: there MemAvailable is what counts, see `edge.memory.probe`.
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


def driver_gpus(files: SystemFiles) -> tuple[Gpu, ...]:
    """Those that the driver lists in /proc, by name only: what is there without NVML."""
    names = []
    for folder in files.folder(_DRIVER):
        for line in files.text(f"{_DRIVER}/{folder}/information").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model" and value.strip():
                names.append(value.strip())
    return tuple(Gpu(name, None, None, source=f"/{_DRIVER}") for name in names)


def gpus_of(files: SystemFiles) -> tuple[Gpu, ...]:
    """NVML's word where the files are this machine's own, else the driver's."""
    return (gpus() if files.root == Path("/") else ()) or driver_gpus(files)


def _gpu(nvml: Any, handle: Any) -> Gpu:
    name = nvml.nvmlDeviceGetName(handle)
    total, free = _memory(nvml, handle)
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    return Gpu(text, total, free, _capability(nvml, handle))


def _memory(nvml: Any, handle: Any) -> tuple[int | None, int | None]:
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError:  # GPUs that share the system's memory: not supported
        return None, None
    return int(memory.total), int(memory.free)


def _capability(nvml: Any, handle: Any) -> str | None:
    try:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    except (nvml.NVMLError, AttributeError):
        return None
    return f"{major}.{minor}"
