"""The power mode, and what can measure power."""

from __future__ import annotations

import re

from boards.detection import Detection
from boards.files import SystemFiles
from boards.power import power_modes
from boards.tegra import is_tegra
from edge.conditions.meters import Cards, meters
from edge.doctor.finding import Finding, because_and_next

_WATTS = re.compile(r"(\d+(?:\.\d+)?)\s*W", re.IGNORECASE)


def power_mode(found: Detection, files: SystemFiles) -> Finding:
    """Which one is in use, and how to have the fastest: by its name, with the number that this machine gives it."""
    modes = power_modes(files)
    fastest = max(modes.names, key=lambda name: _rank(found, name), default=None)
    # A number that is written in another machine's guide is another mode here.
    raise_it = f"sudo nvpmodel -m {modes.numbers[fastest]}" if fastest else ""
    facts = {
        "mode": modes.current,
        "modes": list(modes.names),
        "fastest": fastest,
        "raise": raise_it if raise_it and modes.current != fastest else None,
    }
    if fastest is None:
        if not is_tegra(files):
            return Finding("power mode", "ok", "none: not a Jetson", facts=facts)
        return Finding(
            "power mode",
            "note",
            "unknown: /etc/nvpmodel.conf is not seen",
            "in a container, start it with -v /etc/nvpmodel.conf:/etc/nvpmodel.conf:ro "
            "-v /var/lib/nvpmodel:/var/lib/nvpmodel:ro; else ask: sudo nvpmodel -q",
            facts,
        )
    where = " (on the board itself, not in this container)" if found.container else ""
    if modes.current is None:
        return Finding(
            "power mode",
            "note",
            f"unknown: {modes.said}",
            f"the fastest, {fastest}: {raise_it}{where}",
            facts,
        )
    if modes.current == fastest:
        return Finding("power mode", "ok", f"{fastest}, the fastest of {', '.join(modes.names)}", facts=facts)
    text = f"{modes.current} of {', '.join(modes.names)}; {fastest} is faster and takes more power"
    return Finding("power mode", "note", text, f"{raise_it}{where}", facts)


def power_meter(files: SystemFiles, cards: Cards) -> Finding:
    """What edge bench can measure energy with."""
    found, missing = meters(files, cards)
    facts = {"meters": [meter.source for meter in found], "missing": list(missing)}
    if found:
        return Finding(
            "energy", "ok", "; ".join(f"{meter.source} ({meter.covers})" for meter in found), facts=facts
        )
    text, step = because_and_next(missing[0])
    return Finding("energy", "note" if step else "ok", f"not measured here: {text}", step, facts)


def _rank(found: Detection, name: str) -> tuple[bool, bool, float]:
    """MAXN has no limit but the hardware's, and MAXN_SUPER higher clocks; the others go by their watts."""
    capital = name.upper()
    known, told = found.board.mode(name), _WATTS.search(name)
    watts = known.watts.value if known and known.watts else float(told[1]) if told else 0.0
    return "MAXN_SUPER" in capital, "MAXN" in capital, watts
