"""Swap: on disks, and in compressed memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from boards.files import number, printable, system_text


@dataclass(frozen=True)
class Swap:
    """A place for pages that are not in use; sizes in bytes."""

    name: str
    size: int
    used: int

    @property
    def zram(self) -> bool:
        """Whether it is compressed memory: what goes there takes memory all the same."""
        return "zram" in self.name


def swaps(root: Path = Path("/")) -> tuple[Swap, ...]:
    """Those that /proc/swaps lists."""
    found = []
    for line in system_text(root / "proc/swaps").splitlines()[1:]:
        words = line.split()
        size, used = (number(word) for word in words[2:4]) if len(words) >= 4 else (None, None)
        if size is not None and used is not None:
            found.append(Swap(printable(words[0]), size * 1024, used * 1024))
    return tuple(found)
