"""What memory there is: what the system can give without swapping, never more than the process's limits allow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge.memory.gpu import Gpu, gpus
from edge.memory.proc import listed_sizes


@dataclass(frozen=True)
class _Controller:
    """Where one cgroup version keeps what it knows of memory."""

    mounts: tuple[str, ...]
    limit: str
    usage: str
    reclaimable: str


_V1 = _Controller(
    ("sys/fs/cgroup/memory",), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
)
# Where both versions are mounted, the second is below `unified`.
_V2 = _Controller(("sys/fs/cgroup", "sys/fs/cgroup/unified"), "memory.max", "memory.current", "inactive_file")


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
    compatible = _text(root / "proc/device-tree/compatible").split("\0")
    tegra = any(name.startswith("nvidia,tegra") for name in compatible)
    unified = tegra or (root / "etc/nv_tegra_release").exists()
    zram, disk = _swap(root)
    total = listed_sizes(root / "proc/meminfo").get("MemTotal") or os.sysconf("SC_PHYS_PAGES") * os.sysconf(
        "SC_PAGE_SIZE"
    )
    return Memory(
        total=total,
        available=available_bytes(root),
        # The first version writes a number larger than any memory where there is no limit.
        cgroup_limit=min((group.limit for group in _groups(root) if group.limit < total), default=None),
        swap_free=disk,
        zram_free=zram,
        board=_text(root / "proc/device-tree/model").strip("\0\n"),
        unified=unified,
        gpus=() if unified else gpus(),
    )


def available_bytes(root: Path = Path("/"), needed_files: int = 0) -> int:
    """Bytes that this process can still take; `root` is where proc and sys are found.

    Of what the system counts as available, `needed_files` bytes are file pages that must stay.
    """
    free = [_system(root) - needed_files, *(group.left for group in _groups(root)), *_of_process(root)]
    return max(0, min(free))


def _system(root: Path) -> int:
    known = listed_sizes(root / "proc/meminfo").get("MemAvailable")
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known is None else known


# Lines of /proc/self/limits (ulimit -d and -v), and what counts against them in /proc/self/status.
_LIMITS = (("Max data size", "VmData"), ("Max address space", "VmSize"))


def _of_process(root: Path) -> Iterator[int]:
    """What is left of the limits on this process."""
    lines = _text(root / "proc/self/limits").splitlines()
    taken = listed_sizes(root / "proc/self/status")
    for name, counted in _LIMITS:
        for line in lines:
            soft = line.removeprefix(name).split()[:1] if line.startswith(name) else []
            if soft and soft[0].isdigit():
                yield int(soft[0]) - taken.get(counted, 0)


def _swap(root: Path) -> tuple[int, int]:
    """What is free of (zram, swap on disks)."""
    free = [0, 0]
    for line in _text(root / "proc/swaps").splitlines()[1:]:
        words = line.split()
        if len(words) >= 4 and words[2].isdigit() and words[3].isdigit():
            free["zram" not in words[0]] += (int(words[2]) - int(words[3])) * 1024
    return free[0], free[1]


@dataclass(frozen=True)
class _Group:
    limit: int
    left: int


def _groups(root: Path) -> Iterator[_Group]:
    """The groups above this process that have a limit."""
    for folder, version in _folders(root):
        yield from _limits(folder, version)


def group_folders(root: Path = Path("/")) -> list[Path]:
    """Where the kernel may tell of the cgroups that this process is in; not all of them need be there."""
    return [folder for folder, _ in _folders(root)]


def _folders(root: Path) -> Iterator[tuple[Path, _Controller]]:
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, name = rest.partition(":")
        if not colon or (controllers and "memory" not in controllers.split(",")):
            continue
        version = _V1 if controllers else _V2
        for mount in version.mounts:
            for folder in _upwards(root / mount, name):
                yield folder, version


def _upwards(mount: Path, name: str) -> Iterator[Path]:
    """The group's folder and those above it; a container may see its own group as the mount itself."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..")]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _limits(folder: Path, version: _Controller) -> Iterator[_Group]:
    limit, usage = _text(folder / version.limit).strip(), _text(folder / version.usage).strip()
    if not limit.isdigit() or not usage.isdigit():  # "max", or no memory controller here
        return
    reclaimable = 0
    for line in _text(folder / "memory.stat").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == version.reclaimable:
            reclaimable = int(words[1])
    # File pages not used lately count as taken, but are given up as soon as memory is wanted.
    yield _Group(int(limit), int(limit) - max(0, int(usage) - reclaimable))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
