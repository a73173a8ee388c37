"""Looking at the machine: every source is asked, and nothing that it says or fails to say is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from boards.cgroup import groups
from boards.conflicts import conflicts
from boards.detection import Detection, Evidence
from boards.files import SystemFiles, printable
from boards.folders import catalogue
from boards.gpu import Gpu, gpus_of
from boards.host import container, cpu, is_wsl
from boards.identify import Signs, identify
from boards.measured import measured
from boards.power import PowerModes, power_modes
from boards.proc import listed_sizes
from boards.tegra import (
    COMPATIBLE,
    KERNEL,
    MODEL,
    RELEASE,
    is_tegra,
    kernel_is_tegras,
    l4t_version,
    release_of,
)
from boards.thermal import temperatures

PRODUCT = "sys/class/dmi/id/product_name"
MEMORY = "proc/meminfo"
# A limit that is none: larger than any memory.
_NO_LIMIT = 1 << 50


def detect(
    root: Path = Path("/"), *, gpus: Sequence[Gpu] | None = None, bandwidth: float | None = None
) -> Detection:
    """What the machine is whose proc, sys, etc, run and var are found below `root`.

    `gpus` are those of NVML, which is else asked where `root` is this machine's own. `bandwidth`, bytes a second as
    measured (`edge.memory.bandwidth`), goes into the profile of a machine that no file describes. Raises nothing:
    what cannot be read is told in the answer.
    """
    files, there = SystemFiles(root), catalogue()
    profiles = tuple(there.profiles.values())
    cards = gpus_of(files) if gpus is None else tuple(gpus)
    modes, host = power_modes(files), cpu(files)
    l4t, release_line = l4t_version(files)
    compatible = tuple(filter(None, map(printable, files.text(COMPATIBLE).split("\0"))))
    model = printable(files.text(MODEL).replace("\0", " "))
    product = printable(files.text(PRODUCT))
    memory = _memory(files)
    signs = Signs(compatible, product, cards, modes.names, memory)
    found = identify(profiles, signs)
    tegra, wsl = is_tegra(files), is_wsl(files)
    kind, told = container(files)
    title = model or product or host.name or "unknown machine"
    kernel = "WSL" if wsl else "a kernel for Tegra" if kernel_is_tegras(files) else ""
    said = [
        (f"/{COMPATIBLE}", ", ".join(compatible)),
        (f"/{MODEL}", model),
        (f"/{PRODUCT}", product),
        (f"/{RELEASE}", release_line),
        *((gpu.source, _words(gpu)) for gpu in cards),
        (f"/{MEMORY}", f"{memory / (1 << 30):.1f} GiB" if memory else ""),
        (modes.source, f"{modes.current or 'mode unknown'}: {modes.said}" if modes.source else ""),
        (told, f"a container: {kind}" if kind else ""),
        (f"/{KERNEL}", kernel),
        ("measured", f"{bandwidth / 1e9:.1f} GB/s" if bandwidth else ""),
    ]
    limits = [group.limit for group in groups(root) if group.limit < (memory or _NO_LIMIT)]
    heat = temperatures(files)
    return Detection(
        board=found.profile if found else measured(title, host, memory, cards, bandwidth, tegra),
        known=found is not None,
        decided_by=found.source if found else "",
        evidence=tuple(Evidence(source, says) for source, says in said if says),
        conflicts=conflicts(found, signs, model, l4t, modes, host, profiles),
        unreadable=tuple(dict.fromkeys(files.unreadable)),
        notes=(
            *_notes(found is not None, tegra, compatible, kind, wsl, modes),
            *map(str, there.faults.values()),
        ),
        cpu=host,
        memory=memory,
        memory_limit=min(limits, default=None),
        gpus=cards,
        l4t=l4t,
        release=release_of(l4t) if l4t else None,
        power_mode=modes.current,
        power_modes=modes.names,
        temperatures=heat,
        container=kind,
        wsl=wsl,
    )


def _memory(files: SystemFiles) -> int | None:
    """MemTotal in bytes."""
    total = listed_sizes(files.root / MEMORY).get("MemTotal")
    if total is None:
        files.refuse(MEMORY, "it has no line such as 'MemTotal: 8000000 kB'")
    return total


def _words(gpu: Gpu) -> str:
    parts = [printable(gpu.name)]
    parts += [f"{gpu.total / (1 << 30):.1f} GiB"] if gpu.total else []
    return ", ".join([*parts, f"SM {gpu.sm}"] if gpu.sm else parts)


def _notes(
    known: bool, tegra: bool, compatible: Sequence[str], kind: str, wsl: bool, modes: PowerModes
) -> Iterator[str]:
    if tegra and not compatible:
        where = "this container hides" if kind else "the system does not show"
        yield (
            f"a Jetson, and {where} its device tree, so which one is not known; start the container with "
            "-v /proc/device-tree:/proc/device-tree:ro, or name the board"
        )
    elif not known:
        yield "no profile is of this machine, so it is taken as it shows itself; to write one: docs/boards.md"
    if tegra and kind and not modes.names:
        yield (
            "power modes are not seen from this container; start it with -v /etc/nvpmodel.conf:/etc/nvpmodel.conf:ro "
            "-v /var/lib/nvpmodel:/var/lib/nvpmodel:ro"
        )
    if wsl:
        yield "WSL: memory is what Windows gives it (.wslconfig), and the board's sensors are not seen"
