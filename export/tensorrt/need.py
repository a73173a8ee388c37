"""Memory that a build takes, told before it is begun."""

from __future__ import annotations

import os
from pathlib import Path

from boards.cgroup import groups
from boards.proc import listed_sizes
from edge.errors import MemoryBudgetError

# As measured with TensorRT for RTX 1.7 (python -m bench.tensorrt_build): Python and the builder, code of a layer in a
# profile, and the weights, of which there are two copies and a half at most.
_BASE, _LAYER, _WEIGHTS = 360 << 20, 11 << 19, 2.5
_LEAST_WORKSPACE = 64 << 20
_MOST_WORKSPACE = 1 << 30


def build_bytes(weight_bytes: int, layers: int, profiles: int) -> int:
    """What a build allocates at its peak. Pages of the weights file come on top, which the system takes back."""
    return int(_BASE + layers * profiles * _LAYER + _WEIGHTS * weight_bytes)


def available_bytes(root: Path = Path("/")) -> int:
    """What there is for it: of the system's memory, and of the cgroups' limits."""
    known = listed_sizes(root / "proc/meminfo").get("MemAvailable")
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known is None else known
    return max(0, min([free, *(group.left for group in groups(root))]))


def check_memory(needed: int, available: int, asked: int | None) -> int:
    """The bytes that the builder may take: what is asked for, else what there is.

    Raises:
        MemoryBudgetError: it needs more.
    """
    most = available if asked is None else min(asked, available)
    if needed > most:
        what = "are free" if asked is None or asked > available else "are allowed (--memory)"
        raise MemoryBudgetError(
            f"the build needs about {_megabytes(needed)}, and {_megabytes(most)} {what}; close other programs, give it "
            "more, or build a smaller model"
        )
    return most


def workspace_bytes(most: int, needed: int, unified: bool) -> int:
    """What the engine may use of the GPU's memory beside weights and KV: on unified boards only what is left here."""
    room = most - needed if unified else _MOST_WORKSPACE
    return max(_LEAST_WORKSPACE, min(_MOST_WORKSPACE, room))


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:.0f} MB"
