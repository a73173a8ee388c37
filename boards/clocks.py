"""CPU clocks, as cpufreq tells of them."""

from __future__ import annotations

from dataclasses import dataclass

from boards.files import SystemFiles, number, printable

_POLICIES = "sys/devices/system/cpu/cpufreq"


@dataclass(frozen=True)
class Clock:
    """A group of cores that share a clock; in kHz, None where it is not told."""

    name: str
    governor: str
    driver: str
    now: int | None
    allowed: int | None
    """The most that is allowed now: by a power mode, by cooling, or by somebody."""
    highest: int | None
    """The most that the hardware does."""


def clocks(files: SystemFiles) -> tuple[Clock, ...]:
    """Those there are; none in most containers and virtual machines' guests."""
    found = []
    for name in files.folder(_POLICIES):
        folder = f"{_POLICIES}/{name}"
        governor = printable(files.text(f"{folder}/scaling_governor"))
        if not (name.startswith("policy") and governor):
            continue
        now, allowed, highest = (
            number(files.text(f"{folder}/{file}"))
            for file in ("scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq")
        )
        driver = printable(files.text(f"{folder}/scaling_driver"))
        found.append(Clock(name, governor, driver, now, allowed, highest))
    return tuple(found)
