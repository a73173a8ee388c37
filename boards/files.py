"""Files in which the system tells of itself: any may be missing, forbidden or not what it should be."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

# What the system writes is short; more than this is no such file.
_MOST = 1 << 20
_LONGEST_SHOWN = 120
# What a file is that this machine does not have, or a sensor that is switched off just now.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EAGAIN, errno.ENXIO, errno.ENODEV)


@dataclass(frozen=True)
class Unreadable:
    """A file that is there and does not tell what it should."""

    path: str
    why: str


class SystemFiles:
    """The files below a root, read as text; remembers those that could not be used."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: list[Unreadable] = []

    def text(self, name: str) -> str:
        """The text of `name`, a path below the root; empty where there is none, or none can be had."""
        try:
            return _read(self.root / name)
        except OSError as e:
            if e.errno not in _ABSENT:
                self.refuse(name, (e.strerror or str(e)).lower())
            return ""

    def refuse(self, name: str, why: str) -> None:
        """Remember that `name` cannot be used."""
        self.unreadable.append(Unreadable(f"/{name}", why))

    def folder(self, name: str) -> list[str]:
        """The names in a folder, sorted; none where it is missing or closed."""
        try:
            return sorted(path.name for path in (self.root / name).iterdir())
        except OSError as e:
            if e.errno not in _ABSENT:
                self.refuse(name, (e.strerror or str(e)).lower())
            return []

    def has(self, name: str) -> bool:
        """Whether there is something of that name."""
        try:
            return (self.root / name).exists()
        except OSError:
            return False


def system_text(path: Path) -> str:
    """The text of a file; empty where it is missing or cannot be read."""
    try:
        return _read(path)
    except OSError:
        return ""


def number(text: str) -> int | None:
    """A count that a file holds; None where it is anything else."""
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def printable(text: str) -> str:
    """A line of what a file said, short and without control characters."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text.strip())
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[: _LONGEST_SHOWN - 3]}..."


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MOST).decode("utf-8", "replace")
