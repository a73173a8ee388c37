"""Temperatures, by thermal zone."""

from __future__ import annotations

import re

from boards.files import SystemFiles, printable

_ZONES = "sys/class/thermal"
_MILLIDEGREES = re.compile(r"-?\d{1,6}")
# Outside of this a sensor is off or broken, in degrees.
_COLDEST, _HOTTEST = -60, 200


def temperatures(files: SystemFiles) -> dict[str, float]:
    """Degrees Celsius by the type of the zone; zones of the same type are numbered from the second on."""
    found: dict[str, float] = {}
    for zone in files.folder(_ZONES):
        if not zone.startswith("thermal_zone"):
            continue
        name = f"{_ZONES}/{zone}/temp"
        text = files.text(name).strip()
        if not text:  # switched off just now
            continue
        degrees = int(text) / 1000 if _MILLIDEGREES.fullmatch(text) else None
        if degrees is None or not _COLDEST <= degrees <= _HOTTEST:
            files.refuse(name, f"it says {printable(text)!r}, not a temperature in thousandths of a degree")
            continue
        kind = printable(files.text(f"{_ZONES}/{zone}/type")) or zone
        alike = sum(known == kind or known.startswith(f"{kind} #") for known in found)
        found[f"{kind} #{alike + 1}" if alike else kind] = degrees
    return found
