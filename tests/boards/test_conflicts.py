"""Sources that contradict each other: one is believed, and the answer says which and why."""

from __future__ import annotations

from pathlib import Path

import pytest

import boards
from boards.gpu import Gpu
from tests.boards import trees
from tests.boards.trees import Files, plant

GIB = 1 << 30
TREE = "/proc/device-tree/compatible"
NANO = {**trees.ORIN_NANO, "etc/nvpmodel.conf": trees.conf("15W", "25W", "MAXN_SUPER", "7W")}


@pytest.mark.parametrize(
    ("files", "board", "what", "wins", "why"),
    [
        (
            {**NANO, "etc/nv_tegra_release": trees.release("38.2.0")},
            "jetson-orin-nano-super-8gb",
            "Jetson Orin Nano Super 8GB, which runs L4T 36, 39; /etc/nv_tegra_release says L4T 38.2.0",
            TREE,
            "the firmware describes the hardware that it runs on; /etc/nv_tegra_release is part of an installed",
        ),
        (
            {**NANO, "etc/nv_tegra_release": trees.release("32.7.4", "t210ref")},
            "jetson-orin-nano-super-8gb",
            "/etc/nv_tegra_release says L4T 32.7.4",
            TREE,
            "the firmware",
        ),
        (
            {**trees.PI_5, "etc/nv_tegra_release": trees.release("36.4.3")},
            "raspberry-pi-5-8gb",
            "Raspberry Pi 5 8GB, which is no Jetson; /etc/nv_tegra_release says L4T 36.4.3",
            TREE,
            "the firmware",
        ),
        (
            {**NANO, "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0"},
            "jetson-orin-nano-super-8gb",
            "/proc/device-tree/model says 'NVIDIA Jetson AGX Orin Developer Kit'",
            TREE,
            "it has the number of the module",
        ),
        (
            {**NANO, "proc/meminfo": trees.meminfo(15.3)},
            "jetson-orin-nano-super-8gb",
            "Jetson Orin Nano Super 8GB has 8 GB; /proc/meminfo shows 15.3 GiB",
            "/proc/meminfo",
            "memory is what the kernel has; the board stays what /proc/device-tree/compatible names",
        ),
        (
            {**NANO, "proc/cpuinfo": trees.X86},
            "jetson-orin-nano-super-8gb",
            "which is aarch64; /proc/cpuinfo is of x86_64",
            TREE,
            "an emulator shows the CPU of the machine around it",
        ),
        (
            {**NANO, "etc/nvpmodel.conf": trees.conf("15W", "7W", "10W")},
            "jetson-orin-nano-super-8gb",
            "/etc/nvpmodel.conf offers 15W, 7W, 10W, and no MAXN_SUPER",
            TREE,
            "the firmware",
        ),
        (
            {**NANO, "var/lib/nvpmodel/status": "pmode:0008"},
            "jetson-orin-nano-super-8gb",
            "mode number 8 is in use, and there is none of that number among 15W, 25W, MAXN_SUPER, 7W",
            "/etc/nvpmodel.conf",
            "it lists the modes there are",
        ),
    ],
)
def test_who_is_believed(tmp_path: Path, files: Files, board: str, what: str, wins: str, why: str) -> None:
    found = boards.detect(plant(tmp_path, files))
    assert found.board.name == board
    [conflict] = found.conflicts
    assert what in conflict.what
    assert conflict.wins == wins
    assert conflict.wins in conflict.sources
    assert conflict.why.startswith(why)


def test_a_release_that_nobody_knows_is_no_contradiction_of_its_own(tmp_path: Path) -> None:
    found = boards.detect(plant(tmp_path, {**trees.THOR, "etc/nv_tegra_release": trees.release("39.9.7")}))
    assert found.conflicts == ()
    assert found.release is not None
    assert found.release.jetpack_major == 7
    found = boards.detect(plant(tmp_path, {**trees.THOR, "etc/nv_tegra_release": trees.release("55.1")}))
    assert (found.release, len(found.conflicts)) == (None, 1)


def test_a_gpu_of_another_generation(tmp_path: Path) -> None:
    root = plant(tmp_path, NANO)
    [conflict] = boards.detect(root, gpus=[Gpu("Orin (nvgpu)", None, None, "8.6")]).conflicts
    assert "with SM 8.7; NVML says Orin (nvgpu) has SM 8.6" in conflict.what
    assert conflict.wins == "NVML"
    assert boards.detect(root, gpus=[Gpu("Orin (nvgpu)", None, None, "8.7")]).conflicts == ()
    # A card beside it is no contradiction.
    assert boards.detect(root, gpus=[Gpu("NVIDIA RTX A2000", 6 * GIB, 5 * GIB, "8.6")]).conflicts == ()


def test_a_card_of_a_known_name_with_other_memory(tmp_path: Path) -> None:
    """The RTX 3060 with 8 GB is slower than the one that is known, with 12."""
    card = Gpu("NVIDIA GeForce RTX 3060", 8 * GIB, 7 * GIB, "8.6")
    found = boards.detect(plant(tmp_path, trees.PC), gpus=[card])
    assert (found.known, found.board.memory_gb.value) == (False, 8.6)
    [conflict] = found.conflicts
    assert "NVIDIA GeForce RTX 3060 is known with 12 GB, as rtx-3060; this one has 8.0 GiB" in conflict.what
    assert conflict.wins == "NVML"
