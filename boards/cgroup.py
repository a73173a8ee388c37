"""Memory limits of the cgroups that this process is in, of the first and the second version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from boards.files import number, system_text


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


@dataclass(frozen=True)
class Group:
    """A group with a limit, in bytes."""

    limit: int
    left: int
    """What it leaves; below 0 where more is used than allowed."""


def groups(root: Path = Path("/")) -> Iterator[Group]:
    """The groups above this process that have a limit."""
    for folder, version in _folders(root):
        yield from _limits(folder, version)


def group_folders(root: Path = Path("/")) -> list[Path]:
    """Where the kernel may tell of the cgroups that this process is in; not all of them need be there."""
    return [folder for folder, _ in _folders(root)]


def _folders(root: Path) -> Iterator[tuple[Path, _Controller]]:
    for line in system_text(root / "proc/self/cgroup").splitlines():
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


def _limits(folder: Path, version: _Controller) -> Iterator[Group]:
    limit = number(system_text(folder / version.limit))  # "max" where there is none
    usage = number(system_text(folder / version.usage))
    if limit is None or usage is None:
        return
    reclaimable = 0
    for line in system_text(folder / "memory.stat").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == version.reclaimable:
            reclaimable = number(words[1]) or 0
    # File pages not used lately count as taken, but are given up as soon as memory is wanted.
    yield Group(limit, limit - max(0, usage - reclaimable))
