"""Temperatures, by thermal zone, and from which on a zone slows its unit down."""

from __future__ import annotations

import re
from collections.abc import Iterator

from boards.files import SystemFiles, printable

_ZONES = "sys/class/thermal"
_MILLIDEGREES = re.compile(r"-?\d{1,6}")
# Outside of this a sensor is off or broken, in degrees.
_COLDEST, _HOTTEST = -60, 200
_MOST_TRIPS = 16
# Its trip points are set by programs that wish to be told, and slow nothing.
_TOLD_ONLY = ("x86_pkg_temp",)


def temperatures(files: SystemFiles) -> dict[str, float]:
    """Degrees Celsius by the type of the zone; zones of the same type are numbered from the second on."""
    found: dict[str, float] = {}
    for zone, kind in _zones(files):
        name = f"{zone}/temp"
        text = files.text(name).strip()
        if not text:  # switched off just now
            continue
        degrees = _degrees(text)
        if degrees is None:
            files.refuse(name, f"it says {printable(text)!r}, not a temperature in thousandths of a degree")
            continue
        found[kind] = degrees
    return found


def passive_trips(files: SystemFiles) -> dict[str, float]:
    """By zone, named as in `temperatures`: degrees from which on the kernel slows down what is in it."""
    found: dict[str, float] = {}
    for zone, kind in _zones(files):
        if kind.startswith(_TOLD_ONLY):
            continue
        for i in range(_MOST_TRIPS):
            type_ = files.text(f"{zone}/trip_point_{i}_type").strip()
            if not type_:
                break
            degrees = _degrees(files.text(f"{zone}/trip_point_{i}_temp").strip())
            # 0 and what is below stand for a trip that is not set.
            if type_ == "passive" and degrees is not None and degrees > 0:
                found[kind] = min(degrees, found.get(kind, degrees))
    return found


def _zones(files: SystemFiles) -> Iterator[tuple[str, str]]:
    """(folder, name)."""
    seen: dict[str, int] = {}
    for zone in files.folder(_ZONES):
        if not zone.startswith("thermal_zone"):
            continue
        kind = printable(files.text(f"{_ZONES}/{zone}/type")) or zone
        seen[kind] = seen.get(kind, 0) + 1
        yield f"{_ZONES}/{zone}", kind if seen[kind] == 1 else f"{kind} #{seen[kind]}"


def _degrees(text: str) -> float | None:
    degrees = int(text) / 1000 if _MILLIDEGREES.fullmatch(text) else None
    return degrees if degrees is not None and _COLDEST <= degrees <= _HOTTEST else None
