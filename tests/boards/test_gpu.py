from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from boards.files import SystemFiles
from boards.gpu import Gpu, gpus, gpus_of
from edge.memory.probe import probe
from tests.boards.trees import PC_WITH_RTX, plant


class NvmlError(Exception):
    pass


def nvml(*, broken: bool = False, shared: bool = False, old: bool = False) -> SimpleNamespace:
    """What the `pynvml` module looks like; unverified on a device."""
    log: list[str] = []

    def init() -> None:
        if broken:
            raise NvmlError
        log.append("init")

    def memory(i: int) -> SimpleNamespace:
        if shared:
            raise NvmlError("Not Supported")
        return SimpleNamespace(total=8 << 30, free=(7 - i) << 30)

    capability = {} if old else {"nvmlDeviceGetCudaComputeCapability": lambda i: (8, 9)}
    return SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=init,
        nvmlShutdown=lambda: log.append("shutdown"),
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetName=lambda i: b"RTX 4060" if i else "RTX 4090",
        nvmlDeviceGetMemoryInfo=memory,
        log=log,
        **capability,
    )


def test_every_gpu_with_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nvml()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert gpus() == (
        Gpu("RTX 4090", 8 << 30, 7 << 30, "8.9"),
        Gpu("RTX 4060", 8 << 30, 6 << 30, "8.9"),
    )
    assert module.log == ["init", "shutdown"]


def test_no_driver_and_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(broken=True))
    assert gpus() == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpus() == ()


def test_a_gpu_without_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(shared=True, old=True))
    assert gpus() == (Gpu("RTX 4090", None, None), Gpu("RTX 4060", None, None))
    assert probe().unified
    assert probe().gpus == ()


def test_nvml_is_not_asked_about_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    assert gpus_of(SystemFiles(tmp_path)) == ()
    [card] = gpus_of(SystemFiles(plant(tmp_path, PC_WITH_RTX)))
    assert (card.name, card.total, card.source) == (
        "NVIDIA GeForce RTX 4090",
        None,
        "/proc/driver/nvidia/gpus",
    )
