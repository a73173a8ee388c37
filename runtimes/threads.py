"""How many threads to use: the physical cores that this process may run on."""

from __future__ import annotations

import math
import os
from pathlib import Path


def default_threads(root: Path = Path("/")) -> int:
    """Physical cores in the process's affinity mask, no more than the CPU quota of its cgroup; at least 1."""
    allowed = os.sched_getaffinity(0)
    cores = {_core(root, cpu) for cpu in allowed}
    quota = _quota(root)
    return max(1, min(len(cores), math.ceil(quota)) if quota else len(cores))


def _core(root: Path, cpu: int) -> tuple[str, str]:
    """(package, core) of a logical CPU; a core of its own where the kernel does not tell."""
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    package, core = _read(topology / "physical_package_id"), _read(topology / "core_id")
    return (package or "", core or f"cpu{cpu}")


def _quota(root: Path) -> float | None:
    """CPUs' worth of time that the cgroup (v2, else v1) allows, or None where there is no limit."""
    base = root / "sys/fs/cgroup"
    limits = [
        quota
        for controller, path in _groups(root)
        for folder in _upwards(base, controller, path)
        if (quota := _limit(folder)) is not None
    ]
    return min(limits, default=None)


def _groups(root: Path) -> list[tuple[str, str]]:
    """(controller folder, group path) that this process belongs to; v2 has no controller folder."""
    found = []
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            found.append((controllers, path))
    return found


def _upwards(base: Path, controller: str, path: str) -> list[Path]:
    """The group's folder and those above it: each may limit."""
    top = base / controller if controller else base
    parts = [part for part in path.split("/") if part and part != ".."]
    return [top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _limit(folder: Path) -> float | None:
    text = _read(folder / "cpu.max")
    if text is not None:
        words = text.split()
    else:
        words = [_read(folder / "cpu.cfs_quota_us") or "-1", _read(folder / "cpu.cfs_period_us") or "0"]
    try:
        quota, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
