from __future__ import annotations

from pathlib import Path

import pytest

from edge.memory.probe import available_bytes, probe

GB = 1 << 30
MEMINFO = f"MemTotal: {32 << 20} kB\nMemFree: {1 << 20} kB\nMemAvailable: {20 << 20} kB\n"
NO_LIMIT_V1 = 9223372036854771712


def tree(root: Path, files: dict[str, str | int]) -> Path:
    for name, content in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def v1(folder: str, limit: int, usage: int, inactive: int = 0) -> dict[str, str | int]:
    path = f"sys/fs/cgroup/memory{folder}"
    return {
        f"{path}/memory.limit_in_bytes": limit,
        f"{path}/memory.usage_in_bytes": usage,
        f"{path}/memory.stat": f"cache 1\ninactive_file 7\ntotal_inactive_file {inactive}",
    }


def v2(folder: str, limit: int | str, usage: int, inactive: int = 0) -> dict[str, str | int]:
    path = f"sys/fs/cgroup{folder}"
    return {
        f"{path}/memory.max": limit,
        f"{path}/memory.current": usage,
        f"{path}/memory.stat": f"anon 1\ninactive_file {inactive}",
    }


def limits(data: int | str, addresses: int | str) -> str:
    return (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        f"Max data size             {data!s:20} unlimited            bytes     \n"
        "Max stack size            8388608              unlimited            bytes     \n"
        f"Max address space         {addresses!s:20} unlimited            bytes     "
    )


STATUS = f"Name: python\nVmSize: {4 << 20} kB\nVmData: {1 << 20} kB"
V1, V2 = "12:cpu,cpuacct:/a\n4:memory:/a/b\n", "0::/a/b"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 20 * GB),
        ({"proc/self/cgroup": V2}, 20 * GB),
        ({"proc/self/cgroup": V2, **v2("/a/b", "max", 5 * GB)}, 20 * GB),
        ({"proc/self/cgroup": V2, **v2("/a/b", 8 * GB, 5 * GB)}, 3 * GB),
        ({"proc/self/cgroup": V2, **v2("/a/b", 8 * GB, 5 * GB, inactive=GB)}, 4 * GB),
        ({"proc/self/cgroup": V2, **v2("/a/b", 64 * GB, 5 * GB)}, 20 * GB),
        # A group above may leave less.
        ({"proc/self/cgroup": V2, **v2("/a/b", 8 * GB, 1 * GB), **v2("/a", 6 * GB, 4 * GB)}, 2 * GB),
        # A container sees its own group as the root.
        ({"proc/self/cgroup": V2, **v2("", 4 * GB, 1 * GB)}, 3 * GB),
        ({"proc/self/cgroup": "0::/../../other", **v2("", 4 * GB, 1 * GB)}, 3 * GB),
        ({"proc/self/cgroup": "0::/", **v2("", 4 * GB, 1 * GB)}, 3 * GB),
        # More used than allowed, as after a limit was lowered.
        ({"proc/self/cgroup": V2, **v2("/a/b", 4 * GB, 5 * GB)}, 0),
        ({"proc/self/cgroup": V1, **v1("/a/b", NO_LIMIT_V1, 5 * GB)}, 20 * GB),
        ({"proc/self/cgroup": V1, **v1("/a/b", 8 * GB, 5 * GB, inactive=2 * GB)}, 5 * GB),
        ({"proc/self/cgroup": V1, **v1("", 8 * GB, 5 * GB)}, 3 * GB),
        # The memory controller in the first version, the second beside it without one.
        ({"proc/self/cgroup": V1 + "0::/a/b", **v1("/a/b", 8 * GB, 5 * GB)}, 3 * GB),
        ({"proc/self/cgroup": V1 + "0::/a/b", **v2("/unified/a/b", 8 * GB, 6 * GB)}, 2 * GB),
        # ulimit -d counts data, ulimit -v all addresses.
        ({"proc/self/limits": limits(3 * GB, "unlimited"), "proc/self/status": STATUS}, 2 * GB),
        ({"proc/self/limits": limits("unlimited", 9 * GB), "proc/self/status": STATUS}, 5 * GB),
        ({"proc/self/limits": limits(8 * GB, 9 * GB), "proc/self/status": STATUS}, 5 * GB),
        ({"proc/self/limits": limits("unlimited", "unlimited"), "proc/self/status": STATUS}, 20 * GB),
        # Not of the memory controller, or of another group.
        ({"proc/self/cgroup": "2:cpu:/a", **v1("/a", 8 * GB, 5 * GB)}, 20 * GB),
        ({"proc/self/cgroup": V2, **v2("/a/c", 8 * GB, 5 * GB)}, 20 * GB),
    ],
)
def test_never_more_than_the_groups_leave(tmp_path: Path, files: dict[str, str | int], expected: int) -> None:
    assert available_bytes(tree(tmp_path, files)) == expected


def test_this_machine() -> None:
    assert 0 < available_bytes() < 1 << 50


def test_a_system_without_proc(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) > 0


def test_what_the_machine_is(tmp_path: Path) -> None:
    swaps = (
        "Filename Type Size Used Priority\n"
        "/dev/zram0 partition 4194304 1048576 5\n"
        "/dev/nvme0n1p3 partition 8388608 0 -2\n"
        "/swap\\040file file 1048576 1048576 -3"
    )
    machine = probe(
        tree(
            tmp_path,
            {
                "proc/swaps": swaps,
                "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
                "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
                "proc/self/cgroup": V2,
                **v2("/a/b", 8 * GB, 5 * GB),
            },
        )
    )
    assert (machine.total, machine.available, machine.cgroup_limit) == (32 * GB, 3 * GB, 8 * GB)
    assert (machine.zram_free, machine.swap_free) == (3 * GB, 8 * GB)
    assert machine.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert machine.unified


def test_no_limit_is_none(tmp_path: Path) -> None:
    machine = probe(tree(tmp_path, {"proc/self/cgroup": V1, **v1("/a/b", NO_LIMIT_V1, 5 * GB)}))
    assert machine.cgroup_limit is None
    assert not machine.unified
    assert machine.board == ""
