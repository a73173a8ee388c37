"""Sizes as Linux lists them in files of /proc."""

from __future__ import annotations

from pathlib import Path

from boards.files import number, system_text


def listed_sizes(path: Path) -> dict[str, int]:
    """The lines of a file such as meminfo or status that are sizes, in bytes; none where it cannot be read."""
    words = [line.split() for line in system_text(path).splitlines()]
    sizes = {w[0].rstrip(":"): number(w[1]) for w in words if len(w) == 3 and w[2] == "kB"}
    return {name: kilobytes * 1024 for name, kilobytes in sizes.items() if kilobytes is not None}
