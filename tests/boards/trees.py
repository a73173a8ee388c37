"""Machines as their files show them: written by hand from what such boards are known to say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Files = Mapping[str, str | bytes]

ARM = (
    "processor\t: 0\nBogoMIPS\t: 62.50\nFeatures\t: fp asimd evtstrm aes asimdhp asimddp\nCPU part\t: 0xd42\n"
)
X86 = "processor\t: 0\nmodel name\t: AMD Ryzen 9 7950X\nflags\t\t: fpu sse4_2 avx avx2 fma avx512f avx512_vnni\n"


def meminfo(gib: float) -> str:
    kilobytes = int(gib * (1 << 20))
    return f"MemTotal:       {kilobytes} kB\nMemAvailable:   {kilobytes * 3 // 4} kB\n"


def conf(*names: str, default: int = 0) -> str:
    """nvpmodel.conf with modes numbered from 0 on, and what such a file has between them."""
    modes = "\n".join(
        f"< POWER_MODEL ID={i} NAME={name} >\nCPU_ONLINE CORE_0 1\nEMC MAX_FREQ 0\n"
        for i, name in enumerate(names)
    )
    return (
        "# Copyright\n# < POWER_MODEL ID=9 NAME=IN_A_COMMENT >\n"
        "< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/devices/system/cpu/cpu0/online\n\n"
        f"{modes}\n< PM_CONFIG DEFAULT={default} >\n"
    )


def release(version: str, board: str = "generic") -> str:
    major, _, minor = version.partition(".")
    return (
        f"# R{major} (release), REVISION: {minor}, GCID: 38968081, BOARD: {board}, EABI: aarch64, DATE: Wed Jan  8\n"
        "# KERNEL_VARIANT: oot\n"
    )


def kernel(version: str) -> str:
    return f"Linux version {version} (builder@host) (gcc 11.4.0) #1 SMP PREEMPT\n"


def zones(*temperatures: tuple[str, str]) -> Files:
    files: dict[str, str] = {}
    for i, (kind, value) in enumerate(temperatures):
        files |= {f"sys/class/thermal/thermal_zone{i}/type": f"{kind}\n"}
        files |= {f"sys/class/thermal/thermal_zone{i}/temp": f"{value}\n"}
    return files


def tree_of(model: str, *compatible: str) -> Files:
    return {
        "proc/device-tree/model": f"{model}\0",
        "proc/device-tree/compatible": "".join(f"{name}\0" for name in compatible),
    }


ORIN_NANO: Files = {
    **tree_of(
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "nvidia,p3768-0000+p3767-0005-super",
        "nvidia,p3767-0005",
        "nvidia,tegra234",
    ),
    "etc/nv_tegra_release": release("36.4.3"),
    "etc/nvpmodel.conf": conf("15W", "25W", "MAXN_SUPER", "7W", default=1),
    "var/lib/nvpmodel/status": "pmode:0002",
    "proc/cpuinfo": ARM,
    "proc/meminfo": meminfo(7.44),
    "proc/version": kernel("5.15.148-tegra"),
    "proc/self/cgroup": "0::/user.slice/session-1.scope\n",
    **zones(("cpu-thermal", "49500"), ("gpu-thermal", "50125"), ("tj-thermal", "50125")),
}
AGX_ORIN: Files = {
    **tree_of(
        "Jetson AGX Orin Developer Kit",
        "nvidia,p3737-0000+p3701-0005",
        "nvidia,p3701-0005",
        "nvidia,tegra234",
    ),
    "etc/nv_tegra_release": release("35.4.1", "t186ref"),
    "etc/nvpmodel.conf": conf("MAXN", "MODE_15W", "MODE_30W", "MODE_50W", default=2),
    "proc/cpuinfo": ARM,
    "proc/meminfo": meminfo(61.4),
    "proc/version": kernel("5.10.120-tegra"),
    **zones(("CPU-therm", "44000"), ("GPU-therm", "41500")),
}
THOR: Files = {
    **tree_of(
        "NVIDIA Jetson AGX Thor Developer Kit",
        "nvidia,p4071-0000+p3834-0008",
        "nvidia,p3834-0008",
        "nvidia,tegra264",
    ),
    "etc/nv_tegra_release": release("38.2.0"),
    "etc/nvpmodel.conf": conf("MAXN", "120W", "90W", "70W", default=1),
    "var/lib/nvpmodel/status": "pmode:0001\n",
    "proc/cpuinfo": ARM.replace("asimddp", "asimddp i8mm bf16 sve sve2"),
    "proc/meminfo": meminfo(122.8),
    "proc/version": kernel("6.8.12-tegra"),
}
PI_5: Files = {
    **tree_of("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", "brcm,bcm2712"),
    "proc/cpuinfo": ARM.replace("0xd42", "0xd0b"),
    "proc/meminfo": meminfo(7.87),
    "proc/version": kernel("6.6.51+rpt-rpi-2712"),
    **zones(("cpu-thermal", "55650")),
}
RK3588: Files = {
    **tree_of("Radxa ROCK 5B", "radxa,rock-5b", "rockchip,rk3588"),
    "proc/cpuinfo": ARM,
    "proc/meminfo": meminfo(15.6),
    "proc/version": kernel("5.10.110-rockchip"),
}
SPARK: Files = {
    "sys/class/dmi/id/product_name": "NVIDIA_DGX_Spark\n",
    "proc/cpuinfo": ARM,
    "proc/meminfo": meminfo(119.7),
    "proc/version": kernel("6.11.0-1016-nvidia"),
}
PC: Files = {
    "sys/class/dmi/id/product_name": "System Product Name\n",
    "proc/cpuinfo": X86,
    "proc/meminfo": meminfo(62.7),
    "proc/version": kernel("6.8.0-48-generic"),
    "proc/1/cgroup": "0::/init.scope\n",
}
PC_WITH_RTX: Files = {
    **PC,
    "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   \t\t 166\n",
}
WSL: Files = {
    "proc/cpuinfo": X86,
    "proc/meminfo": meminfo(15.5),
    "proc/version": kernel("5.15.167.4-microsoft-standard-WSL2"),
}
LIMIT: Files = {
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/memory.max": f"{4 << 30}\n",
    "sys/fs/cgroup/memory.current": f"{1 << 30}\n",
    ".dockerenv": "",
}
# The device tree and the release file are there, nvpmodel's files are not.
IN_A_CONTAINER: Files = {
    **{name: text for name, text in ORIN_NANO.items() if "nvpmodel" not in name},
    **LIMIT,
}
# Docker masks /sys/firmware, which /proc/device-tree points to.
HIDDEN: Files = {name: text for name, text in IN_A_CONTAINER.items() if "device-tree" not in name}


def plant(root: Path, files: Files) -> Path:
    """The files below `root`, which it returns."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root
