"""What an export took of the machine."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path


def peak_rss_bytes() -> int:
    """The most memory this process has had so far; 0 where the system does not tell."""
    # Not ru_maxrss: that survives exec, so a child of a large process would report its parent.
    match = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def give_back() -> None:
    """Have what was freed go back to the system: glibc keeps blocks below 32 MiB, as most dequantized weights are."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
