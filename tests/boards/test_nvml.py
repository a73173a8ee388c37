"""Cards as NVML tells of them while they work."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from boards.nvml import Cards, Reading


class NvmlError(Exception):
    pass


def refuse(*_: Any) -> Any:
    raise NvmlError("Not Supported")


def nvml(**functions: Any) -> SimpleNamespace:
    """What the `pynvml` module looks like; unverified on a device."""
    log: list[str] = []
    known = {
        "nvmlInit": lambda: log.append("init"),
        "nvmlShutdown": lambda: log.append("shutdown"),
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda i: i,
        "nvmlDeviceGetName": lambda i: b"RTX 4060" if i else "RTX 4090",
        "nvmlDeviceGetPowerUsage": lambda i: 61_500 + i,
        "nvmlDeviceGetTotalEnergyConsumption": lambda i: 10**9 + i,
        "nvmlDeviceGetTemperature": lambda i, sensor: 41 + sensor,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda i: 0x1 | 0x20 | 0x4,
    }
    return SimpleNamespace(NVMLError=NvmlError, log=log, **{**known, **functions})


def test_all_that_they_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nvml()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    cards = Cards()
    # Idle (0x1) is no throttling.
    reasons = ("power limit", "heat (software)")
    assert cards.read() == (
        Reading("RTX 4090", 61.5, 10**9, 41.0, reasons),
        Reading("RTX 4060", 61.501, 10**9 + 1, 41.0, reasons),
    )
    cards.close()
    cards.close()
    assert (cards.read(), module.log) == ((), ["init", "shutdown"])


def test_old_cards_and_an_old_library(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nvml(
        nvmlDeviceGetTotalEnergyConsumption=refuse,
        nvmlDeviceGetPowerUsage=refuse,
        nvmlDeviceGetTemperature=refuse,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda i: 0x8,
    )
    del module.nvmlDeviceGetCurrentClocksEventReasons
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert Cards().read()[0] == Reading("RTX 4090", None, None, None, ("hardware slowdown",))
    module.nvmlDeviceGetCurrentClocksThrottleReasons = refuse
    assert Cards().read()[0].reasons is None


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
def test_no_driver(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    module = nvml(**{broken: refuse})
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert Cards().read() == ()
    assert module.log in ([], ["init", "shutdown"])
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Cards().read() == ()
