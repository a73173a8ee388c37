"""Machines as their files show them, and what they are taken for."""

from __future__ import annotations

from pathlib import Path

import pytest

import boards
from boards.gpu import Gpu
from tests.boards import trees
from tests.boards.trees import Files, plant

GIB = 1 << 30
TREE = "/proc/device-tree/compatible"
OVERLAY = "1 2 0:5 / / rw - overlay overlay rw,lowerdir="


@pytest.mark.parametrize(
    ("files", "name", "by"),
    [
        (trees.ORIN_NANO, "jetson-orin-nano-super-8gb", TREE),
        (trees.AGX_ORIN, "jetson-agx-orin-64gb", TREE),
        (trees.THOR, "jetson-agx-thor", TREE),
        (trees.PI_5, "raspberry-pi-5-8gb", TREE),
        (trees.RK3588, "rk3588-16gb", TREE),
        (trees.SPARK, "dgx-spark", "/sys/class/dmi/id/product_name"),
        (trees.PC, "this-machine", ""),
        (trees.PC_WITH_RTX, "rtx-4090", "/proc/driver/nvidia/gpus"),
        (trees.WSL, "this-machine", ""),
        (trees.IN_A_CONTAINER, "jetson-orin-nano-super-8gb", TREE),
        (trees.HIDDEN, "this-machine", ""),
    ],
)
def test_what_a_machine_is(tmp_path: Path, files: Files, name: str, by: str) -> None:
    found = boards.detect(plant(tmp_path, files))
    assert (found.board.name, found.decided_by, found.known) == (name, by, bool(by))
    assert found.conflicts == ()
    assert found.unreadable == ()


@pytest.mark.parametrize(
    ("compatible", "modes", "gib", "name"),
    [
        # The kernel's own device tree says nothing of Super; nvpmodel does.
        ("nvidia,p3768-0000+p3767-0005", ("15W", "25W", "MAXN_SUPER"), 7.4, "jetson-orin-nano-super-8gb"),
        ("nvidia,p3768-0000+p3767-0005", ("15W", "7W"), 7.4, "jetson-orin-nano-8gb"),
        ("nvidia,p3768-0000+p3767-0003", (), 7.4, "jetson-orin-nano-8gb"),
        ("nvidia,p3767-0003", ("15W",), 7.4, "jetson-orin-nano-8gb"),
        ("oe4t,p3768-0000+p3767-0004+tegrademo", (), 3.3, "jetson-orin-nano-4gb"),
        ("nvidia,p3768-0000+p3767-0001-super", ("MAXN_SUPER",), 7.4, "jetson-orin-nx-8gb"),
        ("nvidia,p3509-0000+p3767-0000", (), 15.3, "jetson-orin-nx-16gb"),
        # The first developer kit is sold with the number of both sizes.
        ("nvidia,p3737-0000+p3701-0000", (), 29.8, "jetson-agx-orin-32gb"),
        ("nvidia,p3737-0000+p3701-0000", (), 61.4, "jetson-agx-orin-64gb"),
        ("nvidia,p3449-0000-b00+p3448-0000-b00", (), 3.9, "jetson-nano"),
        ("nvidia,p3449-0000+p3668-0001", (), 6.8, "jetson-xavier-nx-8gb"),
        ("nvidia,p3449-0000+p3668-0003", (), 14.5, "jetson-xavier-nx-16gb"),
        ("nvidia,p2822-0000+p2888-0001", (), 15.4, "jetson-agx-xavier-16gb"),
        ("nvidia,p2822-0000+p2888-0004", (), 31.2, "jetson-agx-xavier-32gb"),
        # Names that only resemble one.
        ("nvidia,p3767-00031", (), 7.4, "this-machine"),
        ("nvidia,p3834-0000", (), 60.0, "this-machine"),
        ("raspberrypi,500", (), 7.4, "this-machine"),
        ("raspberrypi,4-model-b", (), 7.4, "this-machine"),
    ],
)
def test_modules(tmp_path: Path, compatible: str, modes: tuple[str, ...], gib: float, name: str) -> None:
    files = {"proc/device-tree/compatible": f"{compatible}\0", "proc/meminfo": trees.meminfo(gib)}
    if modes:
        files["etc/nvpmodel.conf"] = trees.conf(*modes)
    assert boards.detect(plant(tmp_path, files)).board.name == name


@pytest.mark.parametrize(
    ("gib", "name"),
    [(1.9, "4gb"), (3.9, "4gb"), (4.0, "4gb"), (6.1, "8gb"), (15.8, "16gb"), (31, "16gb")],
)
def test_a_board_of_several_sizes(tmp_path: Path, gib: float, name: str) -> None:
    found = boards.detect(plant(tmp_path, {**trees.PI_5, "proc/meminfo": trees.meminfo(gib)}))
    assert found.board.name == f"raspberry-pi-5-{name}"
    assert [conflict.wins for conflict in found.conflicts] == ["/proc/meminfo"] * (gib in (1.9, 31))


def test_all_of_an_orin_nano(tmp_path: Path) -> None:
    found = boards.detect(plant(tmp_path, trees.ORIN_NANO))
    assert (found.power_mode, found.power_modes) == ("MAXN_SUPER", ("15W", "25W", "MAXN_SUPER", "7W"))
    assert found.l4t == "36.4.3"
    assert found.release is not None
    assert (found.release.jetpack_major, found.release.cuda, found.release.tensorrt) == (6, "12.6", "10.3")
    assert found.temperatures == {"cpu-thermal": 49.5, "gpu-thermal": 50.125, "tj-thermal": 50.125}
    assert (found.cpu.arch, found.cpu.features) == ("aarch64", ("neon", "fp16", "dotprod"))
    assert (found.container, found.wsl, found.memory_limit, found.notes) == ("", False, None, ())
    assert found.bandwidth_gb_s == 102
    said = {evidence.source: evidence.says for evidence in found.evidence}
    assert (
        said["/proc/device-tree/model"] == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    )
    assert said["/etc/nv_tegra_release"].startswith("# R36 (release), REVISION: 4.3")
    assert said["/var/lib/nvpmodel/status"] == "MAXN_SUPER: mode number 2, by its name"
    assert said["/proc/version"] == "a kernel for Tegra"


def test_bandwidth_is_that_of_the_power_mode(tmp_path: Path) -> None:
    """On this board 0 is 15W: a number taken for the fastest would promise half as much again."""
    found = boards.detect(plant(tmp_path, {**trees.ORIN_NANO, "var/lib/nvpmodel/status": "pmode:0000"}))
    assert (found.power_mode, found.bandwidth_gb_s) == ("15W", 68)


def test_a_jetpack_whose_tensorrt_is_too_old(tmp_path: Path) -> None:
    found = boards.detect(plant(tmp_path, trees.AGX_ORIN))
    assert found.release is not None
    assert (found.release.jetpack_major, found.release.cuda) == (5, "11.4")
    assert "tensorrt" in found.board.engines.value
    assert found.engines == ("onnxruntime", "cpu")
    assert found.power_mode == "MODE_30W"
    mode = found.board.mode(found.power_mode)
    assert mode is not None
    assert mode.name == "30W"


def test_a_container_that_shows_the_device_tree(tmp_path: Path) -> None:
    found = boards.detect(plant(tmp_path, trees.IN_A_CONTAINER))
    assert (found.container, found.memory_limit, found.power_mode) == ("docker", 4 * GIB, None)
    [note] = found.notes
    assert "-v /etc/nvpmodel.conf:/etc/nvpmodel.conf:ro" in note


def test_a_container_that_hides_the_board(tmp_path: Path) -> None:
    found = boards.detect(plant(tmp_path, trees.HIDDEN))
    assert (found.known, found.container, found.l4t) == (False, "docker", "36.4.3")
    assert found.board.unified.value
    assert "this container hides its device tree" in found.notes[0]
    assert "-v /proc/device-tree:/proc/device-tree:ro" in found.notes[0]
    # Not even the release file: the kernel cannot be hidden.
    bare = {name: text for name, text in trees.HIDDEN.items() if "nv_tegra" not in name}
    (tmp_path / "bare").mkdir()
    assert "a Jetson, and this container hides" in boards.detect(plant(tmp_path / "bare", bare)).notes[0]


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({".dockerenv": ""}, "docker"),
        ({"run/.containerenv": 'engine="podman-4.3.1"\n'}, "podman"),
        ({"proc/1/cgroup": "12:memory:/docker/0123abc\n0::/docker/0123abc\n"}, "docker"),
        ({"proc/1/cgroup": "11:memory:/kubepods/besteffort/pod12/0123\n"}, "kubernetes"),
        ({"proc/1/cgroup": "0::/kubepods.slice/kubepods-pod1.slice\n"}, "kubernetes"),
        ({"proc/1/cgroup": "0::/lxc.payload.box\n"}, "lxc"),
        (
            {
                "proc/self/mountinfo": "1 2 0:5 / / rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A\n"
            },
            "docker",
        ),
        # A board that keeps its card unwritten has such a root too.
        ({"proc/self/mountinfo": f"{OVERLAY}/ro,upperdir=/rw\n"}, ""),
        ({"proc/1/cgroup": "0::/init.scope\n", "proc/self/cgroup": "0::/user.slice/my-docker-thing\n"}, ""),
        ({}, ""),
    ],
)
def test_containers(tmp_path: Path, files: Files, kind: str) -> None:
    assert boards.detect(plant(tmp_path, {**trees.PI_5, **files})).container == kind


def test_wsl(tmp_path: Path) -> None:
    card = Gpu("NVIDIA GeForce RTX 4060", 8 * GIB, 7 * GIB, "8.9")
    found = boards.detect(plant(tmp_path, trees.WSL), gpus=[card])
    assert (found.wsl, found.board.name, found.decided_by) == (True, "rtx-4060", "NVML")
    assert found.notes == (
        "WSL: memory is what Windows gives it (.wslconfig), and the board's sensors are not seen",
    )


def test_a_machine_that_no_file_describes(tmp_path: Path) -> None:
    root = plant(tmp_path, trees.PC)
    found = boards.detect(root, bandwidth=48.26e9)
    board = found.board
    assert (board.name, board.title, board.origin) == ("this-machine", "System Product Name", "measured")
    assert (board.memory_gb.value, board.arch) == (67.3, "x86_64")
    assert board.cpu is not None
    assert board.cpu.value == ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni")
    assert board.bandwidth_gb_s is not None
    assert (board.bandwidth_gb_s.value, board.bandwidth_gb_s.source) == (48.3, "measured")
    assert board.usable_bytes == pytest.approx((62.7 - 0.5) * GIB, rel=1e-3)
    assert (board.engines.value, board.unified.value) == (("cpu", "onnxruntime"), True)
    assert boards.detect(root).board.bandwidth_gb_s is None


def test_a_card_that_no_file_describes(tmp_path: Path) -> None:
    card = Gpu("NVIDIA GeForce RTX 4060 Laptop GPU", 8 * GIB, 7 * GIB, "8.9")
    found = boards.detect(plant(tmp_path, trees.PC), gpus=[card], bandwidth=48e9)
    assert not found.known
    board = found.board
    assert board.sm is not None
    assert board.precisions is not None
    assert (board.sm.value, board.precisions.value) == ("8.9", ("fp16", "bf16", "int8", "int4", "fp8"))
    assert (board.memory_gb.value, board.memory_gb.source, board.unified.value) == (8.6, "NVML", False)
    # What was measured is the system's memory, not the card's.
    assert board.bandwidth_gb_s is None
    assert board.engines.value[0] == "tensorrt"


def test_users_profiles_are_found_too(tmp_path: Path, config_folder: Path) -> None:
    text = Path(boards.__file__).with_name("rk3588.toml").read_text()
    (config_folder / "rock-5b.toml").write_text(
        text.replace('"rockchip,rk3588"', '"radxa,rock-5b", "rockchip,rk3588"').replace(
            "[4, 8, 16, 32]", "24"
        )
    )
    found = boards.detect(plant(tmp_path, {**trees.RK3588, "proc/device-tree/compatible": "radxa,rock-5b\0"}))
    assert (found.board.name, found.board.origin) == ("rock-5b", str(config_folder / "rock-5b.toml"))


def test_this_machine() -> None:
    found = boards.detect()
    assert found.memory
    assert found.cpu.arch
    assert found.board.usable_bytes > 0
