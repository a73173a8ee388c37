"""How fast this machine reads memory: the ceiling of decode."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SMALLEST_BUFFER = 256 << 20
_LARGEST_BUFFER = 1 << 30
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def read_bandwidth(threads: int, *, rounds: int = 8, buffer_bytes: int | None = None) -> float:
    """Bytes per second that `threads` threads read together.

    Each thread takes the maximum of its share of a buffer of bytes, four times as large as the last-level
    cache (256 MiB to 1 GiB). numpy's maximum over uint8 runs in vector registers and without the
    interpreter's lock, and computes less per byte than its other reductions: memory, not the core, sets the
    pace. A round lasts from the first start to the last end. The best round counts: this is a ceiling.
    """
    size = buffer_bytes or min(_LARGEST_BUFFER, max(_SMALLEST_BUFFER, 4 * last_level_cache_bytes()))
    # Written once, or every page would be the same page of zeros, and that one cached.
    shares = np.array_split(np.ones(size, np.uint8), threads)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            spans = list(pool.map(_read, shares))
            elapsed = max(end for _, end in spans) - min(start for start, _ in spans)
            best = max(best, size / elapsed)
    return best


def last_level_cache_bytes(caches: Path = _CACHES) -> int:
    """Size of the largest cache of the first core in bytes; 0 where the system does not tell."""
    sizes = [0]
    for file in caches.glob("index*/size"):
        try:
            text = file.read_text().strip()
            sizes.append(int(text.rstrip("KMG")) * _UNITS.get(text[-1:], 1))
        except (OSError, ValueError):
            continue
    return max(sizes)


def _read(share: NDArray[np.uint8]) -> tuple[float, float]:
    start = time.perf_counter()
    share.max()
    return start, time.perf_counter()
