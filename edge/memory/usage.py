"""What this process has taken."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Resident:
    """Memory of this process that is in RAM now, in bytes."""

    anonymous: int
    """The process's own: it cannot be dropped, only swapped."""
    file: int
    """Mapped files: clean pages can be dropped and read again."""
    shared: int


def resident(status: Path = _STATUS) -> Resident:
    """Anonymous and file-backed memory apart; all 0 where the system does not tell."""
    fields = _fields(status)
    return Resident(fields.get("RssAnon", 0), fields.get("RssFile", 0), fields.get("RssShmem", 0))


def peak_rss_bytes(status: Path = _STATUS) -> int:
    """Largest resident memory of this process so far, in bytes, mapped files included.

    VmHWM where Linux gives it: ru_maxrss survives exec, so a small child of a large parent would report that.
    """
    peak = _fields(status).get("VmHWM")
    return peak if peak is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _fields(status: Path) -> dict[str, int]:
    """The lines of a status file that are sizes, in bytes."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines]
    sizes = [w for w in words if len(w) == 3 and w[1].isdigit() and w[2] == "kB"]
    return {w[0].rstrip(":"): int(w[1]) * 1024 for w in sizes}
