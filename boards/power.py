"""Power modes, as nvpmodel keeps them: a mode is known by its name, since numbers differ by board and release."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from boards.files import SystemFiles, number, printable

CONFIGURATION = "etc/nvpmodel.conf"
STATE = "var/lib/nvpmodel/status"

# "< POWER_MODEL ID=0 NAME=15W >", "< PM_CONFIG DEFAULT=1 >"; the state is "pmode:0002".
_ENTRY = re.compile(r"<\s*(POWER_MODEL|PM_CONFIG)\s+([^<>]*)>")
_ATTRIBUTE = re.compile(r"(\w+)\s*=\s*(\S+)")
_STORED = re.compile(r"pmode:\s*(\d{1,9})")


@dataclass(frozen=True)
class PowerModes:
    """What nvpmodel offers, by name."""

    names: tuple[str, ...] = ()
    current: str | None = None
    said: str = ""
    """How the current one is known, or why it is not."""
    source: str = ""
    contradiction: str = ""
    """What does not fit together between the state and the configuration."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """By name, the number that nvpmodel of this machine takes for it."""


def power_modes(files: SystemFiles) -> PowerModes:
    """The modes of this machine; none where nvpmodel is not there."""
    modes, found = _modes(files)
    # Of two of one name the first.
    return replace(found, numbers={name: number for number, name in reversed(modes.items())})


def _modes(files: SystemFiles) -> tuple[dict[int, str], PowerModes]:
    """(names by number, all but the numbers)."""
    text = files.text(CONFIGURATION)
    modes, default = _parse(text)
    if text.strip() and not modes:
        files.refuse(CONFIGURATION, "it has no line such as '< POWER_MODEL ID=0 NAME=15W >'")
    before = len(files.unreadable)
    state = files.text(STATE)
    if not modes:
        return modes, PowerModes()
    names = tuple(dict.fromkeys(modes.values()))
    if len(files.unreadable) > before:
        return modes, PowerModes(names, None, "the current mode cannot be read", f"/{STATE}")
    if not state.strip():
        if default in modes:
            return modes, PowerModes(
                names, modes[default], "the default; no other was chosen", f"/{CONFIGURATION}"
            )
        return modes, PowerModes(
            names, None, "no mode was chosen, and there is no default", f"/{CONFIGURATION}"
        )
    stored = _STORED.search(state)
    if not stored:
        files.refuse(STATE, f"it says {printable(state)!r}, not 'pmode:0000'")
        return modes, PowerModes(names, None, "the current mode cannot be read", f"/{STATE}")
    chosen = int(stored[1])
    if chosen not in modes:
        return modes, PowerModes(
            names,
            None,
            f"mode number {chosen}",
            f"/{STATE}",
            f"mode number {chosen} is in use, and there is none of that number among {', '.join(names)}",
        )
    return modes, PowerModes(names, modes[chosen], f"mode number {chosen}, by its name", f"/{STATE}")


def _parse(text: str) -> tuple[dict[int, str], int | None]:
    """Names by number, and the number of the default."""
    modes: dict[int, str] = {}
    default = None
    for line in text.splitlines():
        entry = _ENTRY.match(line.strip())
        if not entry:  # comments, and what a mode sets
            continue
        attributes = dict(_ATTRIBUTE.findall(entry[2]))
        if entry[1] == "PM_CONFIG":
            default = number(attributes.get("DEFAULT", ""))
            continue
        identifier, name = number(attributes.get("ID", "")), attributes.get("NAME", "")
        if identifier is not None and name:
            modes[identifier] = printable(name)
    return modes, default
