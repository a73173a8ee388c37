"""What this process has taken."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from boards.proc import listed_sizes

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
    fields = listed_sizes(status)
    return Resident(fields.get("RssAnon", 0), fields.get("RssFile", 0), fields.get("RssShmem", 0))


def peak_rss_bytes(status: Path = _STATUS) -> int:
    """Largest resident memory of this process so far, in bytes, mapped files included.

    VmHWM where Linux gives it: ru_maxrss survives exec, so a small child of a large parent would report that.
    """
    peak = listed_sizes(status).get("VmHWM")
    return peak if peak is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
