"""Sizes as Linux lists them in files of /proc."""

from __future__ import annotations

from pathlib import Path


def listed_sizes(path: Path) -> dict[str, int]:
    """The lines of a file such as meminfo or status that are sizes, in bytes; none where it cannot be read."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines]
    sizes = [w for w in words if len(w) == 3 and w[1].isdigit() and w[2] == "kB"]
    return {w[0].rstrip(":"): int(w[1]) * 1024 for w in sizes}
