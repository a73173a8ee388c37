"""Whether the machine holds itself back: for heat, for current, or for a weak power supply."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from boards.files import SystemFiles, number, printable

_THERMAL, _PLATFORM, _HWMON = "sys/class/thermal", "sys/devices/platform", "sys/class/hwmon"
_CPUS = "sys/devices/system/cpu"
# Cooling devices that slow something down; the others are fans, and limits that something else sets.
_SLOWS = re.compile(r"(thermal-)?(cpufreq|devfreq)-.*|.*-throttle-alert|Processor")
# Jetsons (hwmon soctherm_oc): 1 is under-voltage, 2 average and 3 instantaneous over-current.
_OVER_CURRENT = {
    "oc1_event_cnt": "under-voltage",
    "oc2_event_cnt": "average over-current",
    "oc3_event_cnt": "instantaneous over-current",
}
# Bits of a Raspberry Pi's get_throttled; 16 higher: it has been so since the start.
_FIRMWARE_BITS = {
    0: "under-voltage",
    1: "clocks capped",
    2: "throttled",
    3: "soft temperature limit",
}
_SINCE_START = 16


@dataclass(frozen=True)
class Throttling:
    """What can tell of throttling here, and what tells of it now."""

    watched: tuple[str, ...]
    now: tuple[str, ...]


def throttling(files: SystemFiles, degrees: Mapping[str, float], trips: Mapping[str, float]) -> Throttling:
    """By cooling devices, by a Raspberry Pi's firmware, and by zones (`degrees`) that have reached their `trips`."""
    watched: list[str] = []
    now: list[str] = []
    told = [zone for zone in trips if zone in degrees]
    if told:
        watched.append("thermal zones")
        now += [f"{zone} at {degrees[zone]:.0f} °C, its limit is {trips[zone]:.0f}" for zone in told
                if degrees[zone] >= trips[zone]]  # fmt: skip
    states = list(_cooling(files))
    if states:
        watched.append("cooling devices")
        now += [f"cooling device {kind} at {state}" for kind, state in states if state]
    bits = _firmware(files)
    if bits is not None:
        watched.append("the firmware's get_throttled")
        now += [f"firmware: {what}" for bit, what in _FIRMWARE_BITS.items() if bits >> bit & 1]
    return Throttling(tuple(watched), tuple(now))


def throttle_counts(files: SystemFiles) -> dict[str, int]:
    """What has happened since the machine was started: a count that grows tells of throttling in between."""
    found: dict[str, int] = {}
    for chip in files.folder(_HWMON):
        if files.text(f"{_HWMON}/{chip}/name").strip() == "soctherm_oc":
            for name, what in _OVER_CURRENT.items():
                _add(found, f"{what} ({name})", files.text(f"{_HWMON}/{chip}/{name}"))
    for name in files.folder(_CPUS):
        if re.fullmatch(r"cpu\d+", name):
            folder = f"{_CPUS}/{name}/thermal_throttle"
            _add(found, "hot cores (core_throttle_count)", files.text(f"{folder}/core_throttle_count"))
            _add(
                found, "hot package (package_throttle_count)", files.text(f"{folder}/package_throttle_count")
            )
    bits = _firmware(files)
    if bits is not None:
        for bit, what in _FIRMWARE_BITS.items():
            found[f"firmware: {what}"] = bits >> (bit + _SINCE_START) & 1
    return found


def _add(found: dict[str, int], name: str, text: str) -> None:
    count = number(text)
    if count is not None:
        found[name] = found.get(name, 0) + count


def _cooling(files: SystemFiles) -> Iterator[tuple[str, int]]:
    """(type, state) of the devices that slow something down; 0 is not at all."""
    for device in files.folder(_THERMAL):
        if not device.startswith("cooling_device"):
            continue
        kind = printable(files.text(f"{_THERMAL}/{device}/type"))
        if _SLOWS.fullmatch(kind):
            state = number(files.text(f"{_THERMAL}/{device}/cur_state"))
            if state is not None:
                yield kind, state


def _firmware(files: SystemFiles) -> int | None:
    """A Raspberry Pi's get_throttled; None elsewhere. Where it lies differs by board and kernel."""
    for folder in files.folder(_PLATFORM):
        if not folder.startswith("soc"):
            continue
        places = [folder] if folder.endswith(":firmware") else [
            f"{folder}/{inner}" for inner in files.folder(f"{_PLATFORM}/{folder}") if inner.endswith(":firmware")
        ]  # fmt: skip
        for place in places:
            text = files.text(f"{_PLATFORM}/{place}/get_throttled").strip()
            if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", text):
                return int(text, 16)
    return None
