"""What memory there is: what the system can give without swapping, and never more than the cgroup allows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


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


def available_bytes(root: Path = Path("/")) -> int:
    """Bytes that this process can still take; `root` is where proc and sys are found."""
    free = [_system(root), *_groups(root)]
    return max(0, min(free))


def _system(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups(root: Path) -> Iterator[int]:
    """What each group above this process has left of its limit."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, name = rest.partition(":")
        if not colon or (controllers and "memory" not in controllers.split(",")):
            continue
        version = _V1 if controllers else _V2
        for mount in version.mounts:
            for folder in _upwards(root / mount, name):
                yield from _left(folder, version)


def _upwards(mount: Path, name: str) -> Iterator[Path]:
    """The group's folder and those above it; a container may see its own group as the mount itself."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..")]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _left(folder: Path, version: _Controller) -> Iterator[int]:
    limit, usage = _text(folder / version.limit).strip(), _text(folder / version.usage).strip()
    if not limit.isdigit() or not usage.isdigit():  # "max", or no memory controller here
        return
    reclaimable = 0
    for line in _text(folder / "memory.stat").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == version.reclaimable:
            reclaimable = int(words[1])
    # File pages not used lately count as taken, but are given up as soon as memory is wanted.
    yield int(limit) - max(0, int(usage) - reclaimable)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
