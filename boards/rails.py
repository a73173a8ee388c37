"""Power as a board's own monitors measure it: INA3221 and INA238, the chips on Jetsons. Unverified on a device."""

from __future__ import annotations

import re
from dataclasses import dataclass

from boards.files import SystemFiles, printable

_HWMON = "sys/class/hwmon"
_CHANNELS = (1, 2, 3)
_SIGNED = re.compile(r"-?\d{1,9}")
# Rails that all others come from: NVIDIA's "total power of the module".
_WHOLE = ("VDD_IN", "POM_5V_IN", "VIN")
_INPUT = "VIN"
# More than any board takes, in watts: a monitor that says so is wrong.
_MOST_WATTS = 2000.0


@dataclass(frozen=True)
class Rail:
    """A place where power is measured."""

    name: str
    files: tuple[str, ...]
    """Volts and amperes in thousandths, or watts in millionths."""


@dataclass(frozen=True)
class Rails:
    """The rails that are counted, and what they are together."""

    rails: tuple[Rail, ...]
    covers: str

    @property
    def source(self) -> str:
        """Names of the rails."""
        return f"power monitor, {' + '.join(rail.name for rail in self.rails)}"

    def watts(self, files: SystemFiles) -> float | None:
        """What is taken now; None where one of the rails does not tell."""
        total = 0.0
        for rail in self.rails:
            read = [files.text(name).strip() for name in rail.files]
            if not all(_SIGNED.fullmatch(text) for text in read):
                return None
            value = int(read[0]) / 1e6 if len(read) == 1 else int(read[0]) * int(read[1]) / 1e6
            if not -1 <= value <= _MOST_WATTS:
                return None
            total += max(0.0, value)
        return total


def rails(files: SystemFiles) -> Rails | None:
    """The rail that all others come from; where none is known, the sum of all; None without monitors."""
    found: list[Rail] = []
    for chip in files.folder(_HWMON):
        folder = f"{_HWMON}/{chip}"
        kind = files.text(f"{folder}/name").strip()
        if kind == "ina238" and files.has(f"{folder}/power1_input"):
            # Thor's, ahead of module and carrier board.
            found.append(Rail(_INPUT, (f"{folder}/power1_input",)))
        if kind != "ina3221":
            continue
        for i in _CHANNELS:
            label = printable(files.text(f"{folder}/in{i}_label"))
            names = (f"{folder}/in{i}_input", f"{folder}/curr{i}_input")
            if label and label != "NC" and all(map(files.has, names)):
                found.append(Rail(label, names))
    for name in _WHOLE:
        for rail in found:
            if rail.name == name:
                return Rails((rail,), "the module and its carrier board" if name == _INPUT else "the module")
    if not found:
        return None
    return Rails(tuple(found), "these rails: what they leave out, and what they count twice, is not known")
