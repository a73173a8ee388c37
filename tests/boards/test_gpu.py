from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from boards.gpu import Gpu, gpus


class NvmlError(Exception):
    pass


def nvml(*, broken: bool = False) -> SimpleNamespace:
    """What the `pynvml` module looks like; unverified on a device."""
    log: list[str] = []

    def init() -> None:
        if broken:
            raise NvmlError
        log.append("init")

    return SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=init,
        nvmlShutdown=lambda: log.append("shutdown"),
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetName=lambda i: b"RTX 4060" if i else "RTX 4090",
        nvmlDeviceGetMemoryInfo=lambda i: SimpleNamespace(total=8 << 30, free=(7 - i) << 30),
        log=log,
    )


def test_every_gpu_with_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nvml()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert gpus() == (Gpu("RTX 4090", 8 << 30, 7 << 30), Gpu("RTX 4060", 8 << 30, 6 << 30))
    assert module.log == ["init", "shutdown"]


def test_no_driver_and_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(broken=True))
    assert gpus() == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpus() == ()
