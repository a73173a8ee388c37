"""Memory that an export is done with."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from export.usage import give_back

BLOCK, COUNT = 100 << 10, 1000


def anonymous_bytes() -> int:
    match = re.search(r"^RssAnon:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if match is None:
        pytest.skip("this system does not tell what it holds of a process")
    return int(match[1]) * 1024


def test_what_was_freed_goes_back_to_the_system() -> None:
    """Of blocks too small to be mapped each, below one that stays."""
    blocks = [np.ones(BLOCK, np.uint8) for _ in range(COUNT)]
    last = np.ones(BLOCK, np.uint8)
    held = anonymous_bytes()
    blocks.clear()
    give_back()
    assert held - anonymous_bytes() > BLOCK * COUNT // 2
    assert last.all()
