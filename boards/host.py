"""What the process runs in: the kind of CPU, and whether a container or WSL stands between it and the machine."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from boards.files import SystemFiles, printable

# Instruction sets that matter here, by what the kernel calls them.
_X86 = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
)
_ARM = {
    "asimd": "neon",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
}
# What begins the name of a control group in a container, or a folder that its root is made of.
_RUNTIMES = {
    "docker": "docker",
    "kubepods": "kubernetes",
    "libpod": "podman",
    "lxc": "lxc",
    "containerd": "containerd",
    "containers": "podman",
}


@dataclass(frozen=True)
class Cpu:
    """A CPU as the kernel describes it."""

    arch: str
    """x86_64, aarch64, or what the system calls another."""
    name: str
    features: tuple[str, ...]
    """Instruction sets, of those that matter for inference."""


def cpu(files: SystemFiles) -> Cpu:
    """The first CPU of /proc/cpuinfo."""
    lines: dict[str, str] = {}
    for line in files.text("proc/cpuinfo").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            lines.setdefault(key.strip(), value.strip())
    flags, features = lines.get("flags", "").split(), lines.get("Features", "").split()
    name = printable(lines.get("model name", ""))
    if features:
        return Cpu("aarch64", name, tuple(ours for theirs, ours in _ARM.items() if theirs in features))
    if flags:
        return Cpu("x86_64", name, tuple(flag for flag in _X86 if flag in flags))
    arch = platform.machine() if files.root == Path("/") else ""
    return Cpu({"AMD64": "x86_64", "arm64": "aarch64"}.get(arch, arch), name, ())


def container(files: SystemFiles) -> tuple[str, str]:
    """(kind of container, which file told); two empty texts where it is none that can be told."""
    for name, kind in ((".dockerenv", "docker"), ("run/.containerenv", "podman")):
        if files.has(name):
            return kind, f"/{name}"
    for name in ("proc/1/cgroup", "proc/self/cgroup"):
        groups = files.text(name)
        if kind := _runtime(part for line in groups.splitlines() for part in line.split("/")[1:]):
            return kind, f"/{name}"
    for line in files.text("proc/self/mountinfo").splitlines():
        # "ID PARENT DEVICE ROOT MOUNTED-ON OPTIONS ... - TYPE SOURCE OPTIONS"
        kind, _, options = line.partition(" - ")[2].partition(" ")
        if line.split()[4:5] == ["/"] and kind == "overlay" and (kind := _runtime(options.split("/"))):
            return kind, "/proc/self/mountinfo"
    return "", ""


def _runtime(names: Iterable[str]) -> str:
    return next((kind for name in names for word, kind in _RUNTIMES.items() if name.startswith(word)), "")


def is_wsl(files: SystemFiles) -> bool:
    """Whether the kernel is that of the Windows Subsystem for Linux."""
    return "microsoft" in files.text("proc/version").lower()
