"""What an export took of the machine."""

from __future__ import annotations

import re
from pathlib import Path


def peak_rss_bytes() -> int:
    """The most memory this process has had so far; 0 where the system does not tell."""
    # Not ru_maxrss: that survives exec, so a child of a large process would report its parent.
    match = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0
