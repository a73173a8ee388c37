"""What memory there is: what the system can give without swapping, never more than the process's limits allow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from boards.cgroup import groups
from boards.files import SystemFiles, number, printable, system_text
from boards.gpu import Gpu, gpus_of
from boards.proc import listed_sizes
from boards.swap import swaps
from boards.tegra import is_tegra


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The memory of a machine, in bytes."""

    total: int
    available: int
    """What this process can still take: MemAvailable, and no more than its cgroups and its own limits leave it."""
    cgroup_limit: int | None
    """The lowest limit above this process; None where there is none."""
    swap_free: int
    """Swap on disks. No plan counts on it: decoding reads all weights for every token."""
    zram_free: int
    """Compressed memory that serves as swap: what goes there takes memory all the same."""
    board: str
    """What the device tree calls the machine; empty where there is none."""
    unified: bool
    """The GPU uses the system's memory: what CUDA calls free there is not what can be had."""
    gpus: tuple[Gpu, ...]
    """Discrete ones."""


def probe(root: Path = Path("/")) -> Memory:
    """What there is now; `root` is where proc, sys and etc are found."""
    files = SystemFiles(root)
    tegra = is_tegra(files)
    found = () if tegra else gpus_of(files)
    # A GPU that NVML knows and that has no memory of its own shares the system's.
    unified = tegra or any(gpu.source == "NVML" and gpu.total is None for gpu in found)
    zram, disk = _swap(root)
    total = listed_sizes(root / "proc/meminfo").get("MemTotal") or os.sysconf("SC_PHYS_PAGES") * os.sysconf(
        "SC_PAGE_SIZE"
    )
    return Memory(
        total=total,
        available=available_bytes(root),
        # The first version writes a number larger than any memory where there is no limit.
        cgroup_limit=min((group.limit for group in groups(root) if group.limit < total), default=None),
        swap_free=disk,
        zram_free=zram,
        board=printable(system_text(root / "proc/device-tree/model").replace("\0", " ")),
        unified=unified,
        gpus=() if unified else found,
    )


def available_bytes(root: Path = Path("/"), needed_files: int = 0) -> int:
    """Bytes that this process can still take; `root` is where proc and sys are found.

    Of what the system counts as available, `needed_files` bytes are file pages that must stay.
    """
    free = [_system(root) - needed_files, *(group.left for group in groups(root)), *_of_process(root)]
    return max(0, min(free))


def _system(root: Path) -> int:
    known = listed_sizes(root / "proc/meminfo").get("MemAvailable")
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known is None else known


# Lines of /proc/self/limits (ulimit -d and -v), and what counts against them in /proc/self/status.
_LIMITS = (("Max data size", "VmData"), ("Max address space", "VmSize"))


def _of_process(root: Path) -> Iterator[int]:
    """What is left of the limits on this process."""
    lines = system_text(root / "proc/self/limits").splitlines()
    taken = listed_sizes(root / "proc/self/status")
    for name, counted in _LIMITS:
        for line in lines:
            soft = line.removeprefix(name).split()[:1] if line.startswith(name) else []
            most = number(soft[0]) if soft else None
            if most is not None:
                yield most - taken.get(counted, 0)


def _swap(root: Path) -> tuple[int, int]:
    """What is free of (zram, swap on disks)."""
    free = [0, 0]
    for swap in swaps(root):
        free[not swap.zram] += swap.size - swap.used
    return free[0], free[1]
