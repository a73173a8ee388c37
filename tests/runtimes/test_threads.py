"""The default number of threads, on made-up machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtimes.threads import default_threads


def machine(
    root: Path, cores: list[tuple[int, int]], groups: str = "", limits: dict[str, str] | None = None
) -> Path:
    """A root with logical CPUs of (package, core), this process's cgroups and files below /sys/fs/cgroup."""
    for cpu, (package, core) in enumerate(cores):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{package}\n")
        (topology / "core_id").write_text(f"{core}\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in (limits or {}).items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


TWO_WAY = [(0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 0), (1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("affinity", "groups", "limits", "expected"),
    [
        ({0, 1, 2, 3, 4, 5, 6, 7}, "", {}, 4),
        ({0, 1}, "", {}, 1),
        ({0, 2, 5}, "", {}, 3),
        (set(range(8)), "0::/app", {"app/cpu.max": "150000 100000"}, 2),
        (set(range(8)), "0::/app", {"app/cpu.max": "max 100000"}, 4),
        (set(range(8)), "0::/a/b", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        (
            set(range(8)),
            "3:cpu,cpuacct:/x",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "300000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            3,
        ),
        (set(range(8)), "3:cpu:/x", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, 4),
        (set(range(8)), "0::/app", {"app/cpu.max": "1000 100000"}, 1),
        (set(range(8)), "0::/app", {"app/cpu.max": "garbage"}, 4),
        ({0, 9}, "", {}, 2),
    ],
)
def test_default_threads(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    affinity: set[int],
    groups: str,
    limits: dict[str, str],
    expected: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: affinity)
    assert default_threads(machine(tmp_path, TWO_WAY, groups, limits)) == expected


def test_here_it_is_at_least_one() -> None:
    assert 1 <= default_threads() <= len(os.sched_getaffinity(0))
