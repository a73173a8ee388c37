"""Energy as x86 processors count it (RAPL), by the kernel's powercap files."""

from __future__ import annotations

from dataclasses import dataclass

from boards.files import SystemFiles, number, printable

_ZONES = "sys/class/powercap"
_PACKAGE = "package-"
_MEMORY = "dram"


@dataclass(frozen=True)
class Counter:
    """A count of microjoules that begins again at 0 behind `most`."""

    name: str
    file: str
    most: int | None

    def microjoules(self, files: SystemFiles) -> int | None:
        """What it says now; None where it cannot be read."""
        return number(files.text(self.file))


def counters(files: SystemFiles) -> tuple[Counter, ...]:
    """Of each package, and of memory beside it. Cores are part of their package, and a second way to it repeats it."""
    found: dict[str, Counter] = {}
    for zone in files.folder(_ZONES):
        folder = f"{_ZONES}/{zone}"
        if not zone.startswith("intel-rapl:"):  # not intel-rapl-mmio, which counts the same
            continue
        name = printable(files.text(f"{folder}/name"))
        if name == _MEMORY:
            name = f"{_MEMORY} of {zone.rpartition(':')[0].removeprefix('intel-rapl:')}"
        elif not name.startswith(_PACKAGE):
            continue
        most = number(files.text(f"{folder}/max_energy_range_uj"))
        found.setdefault(name, Counter(name, f"{folder}/energy_uj", most))
    return tuple(found.values())
