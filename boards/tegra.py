"""NVIDIA's Tegra chips, which Jetsons are made of: whether this is one, and which release of L4T runs on it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from boards.files import SystemFiles, printable

COMPATIBLE = "proc/device-tree/compatible"
MODEL = "proc/device-tree/model"
RELEASE = "etc/nv_tegra_release"
KERNEL = "proc/version"

# The first line: "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: ..."
_FIRST_LINE = re.compile(r"#\s*R(\d{1,3})\s*\(release\),\s*REVISION:\s*([\d.]{1,10})")


@dataclass(frozen=True)
class Release:
    """A release of L4T (Jetson Linux), and what comes with it. All but the major number is a label."""

    l4t: str
    """Such as 36.4: it and what begins so."""
    jetpack: str
    cuda: str
    tensorrt: str
    source: str
    confirmed: bool = True
    """Whether the version of TensorRT was read somewhere, or is from memory."""

    @property
    def major(self) -> int:
        """Of L4T."""
        return int(self.l4t.split(".")[0])

    @property
    def jetpack_major(self) -> int:
        """Of JetPack."""
        return int(self.jetpack.split(".")[0])


RELEASES = (
    Release("32.7", "4.6", "10.2", "8.2", "jetson_stats; onnxruntime#5282", confirmed=False),
    Release("35", "5", "11.4", "8.5", "jetson-containers#342; TensorRT-LLM#62"),
    Release("36.3", "6.0", "12.4", "8.6", "jetson-containers l4t_version.py", confirmed=False),
    Release("36.4", "6.1 to 6.2.1", "12.6", "10.3", "jetson-containers l4t_version.py; unsloth#3113"),
    Release(
        "38.2", "7.0", "13.0", "10.13", "jetson-containers l4t_version.py; TensorRT Edge-LLM documentation"
    ),
    Release("38.4", "7.1", "13.0", "10.13", "roboflow/inference#2531"),
    Release("39", "7.2", "13.2", "10.16", "roboflow/inference#2531; TensorRT Edge-LLM support matrix"),
)


def release_of(l4t: str) -> Release | None:
    """The release that an L4T version such as 36.4.3 is of; None where its major number is not known.

    The nearest below among those of the same major number, else the first of them.
    """
    version = _numbers(l4t)
    same = [release for release in RELEASES if release.major == version[0]]
    older = [release for release in same if _numbers(release.l4t) <= version]
    return older[-1] if older else next(iter(same), None)


def is_tegra(files: SystemFiles) -> bool:
    """Whether this is a Jetson, by device tree, release file or kernel: a container may hide any of them."""
    compatible = files.text(COMPATIBLE).split("\0")
    return (
        any(name.startswith("nvidia,tegra") for name in compatible)
        or files.has(RELEASE)
        or kernel_is_tegras(files)
    )


def kernel_is_tegras(files: SystemFiles) -> bool:
    """Whether the kernel is one that NVIDIA builds for Jetsons, such as 5.15.148-tegra."""
    words = files.text(KERNEL).split()
    return len(words) > 2 and words[2].endswith("-tegra")


def l4t_version(files: SystemFiles) -> tuple[str, str]:
    """(version such as 36.4.3, the line that says so); two empty texts where no file says it."""
    text = files.text(RELEASE)
    if not text:
        return "", ""
    line = printable(text.splitlines()[0]) if text.splitlines() else ""
    found = _FIRST_LINE.match(line)
    if not found:
        files.refuse(RELEASE, f"its first line is {line!r}, not '# R36 (release), REVISION: 4.3, ...'")
        return "", ""
    return f"{found[1]}.{found[2].strip('.')}".strip("."), line


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)
