"""What NVML tells of a card while it works: power, energy, heat, and why its clocks are low. Unverified on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

# nvml.h: reasons for low clocks that are no choice of the user's.
_REASONS = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
_CORE = 0  # NVML_TEMPERATURE_GPU


@dataclass(frozen=True)
class Reading:
    """Of one card at one time; None is what it does not tell."""

    name: str
    watts: float | None
    millijoules: int | None
    """Since the driver was loaded."""
    degrees: float | None
    reasons: tuple[str, ...] | None
    """Why its clocks are lower than they could be."""


class Cards:
    """The NVIDIA cards of this machine, asked again and again; none where NVML or its driver is missing."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            nvml: Any = import_module("pynvml")
            nvml.nvmlInit()
        except Exception:  # not installed, or the driver is missing: each in a class of its own
            return
        self._nvml = nvml
        try:
            self._handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError:
            self.close()

    def read(self) -> tuple[Reading, ...]:
        """All of them now."""
        return tuple(self._reading(handle) for handle in self._handles)

    def close(self) -> None:
        """Ask no more."""
        nvml, self._nvml, self._handles = self._nvml, None, []
        if nvml is not None:
            self._told(nvml, nvml.nvmlShutdown)

    def _reading(self, handle: Any) -> Reading:
        nvml = self._nvml
        name = self._ask("nvmlDeviceGetName", handle)
        milliwatts = self._ask("nvmlDeviceGetPowerUsage", handle)
        energy = self._ask("nvmlDeviceGetTotalEnergyConsumption", handle)
        degrees = self._told(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, _CORE))
        # Its name before the driver 535.
        mask = self._ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
        if mask is None:
            mask = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return Reading(
            name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or "GPU"),
            None if milliwatts is None else milliwatts / 1000,
            None if energy is None else int(energy),
            None if degrees is None else float(degrees),
            None if mask is None else tuple(why for bit, why in _REASONS.items() if mask & bit),
        )

    def _ask(self, function: str, handle: Any) -> Any:
        return self._told(self._nvml, lambda: getattr(self._nvml, function)(handle))

    @staticmethod
    def _told(nvml: Any, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (nvml.NVMLError, AttributeError):  # not supported by the card, or by this NVML
            return None
