"""All that there is to look at, one behind the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import boards
from boards.files import SystemFiles
from boards.nvml import Cards
from boards.tegra import is_tegra
from edge.doctor.disk import cache_folder
from edge.doctor.engines import accelerators, engines
from edge.doctor.finding import Finding
from edge.doctor.heat import cpu_clocks, temperature
from edge.doctor.isa import instruction_sets
from edge.doctor.machine import files_not_usable, system, which_board
from edge.doctor.memory import memory, swap
from edge.doctor.offline import offline
from edge.doctor.power import power_meter, power_mode
from edge.doctor.software import Software, installed
from edge.doctor.versions import versions

_ROOT = Path("/")


def checkup(
    root: Path = _ROOT,
    *,
    software: Software | None = None,
    disk: bool = True,
    progress: Callable[[int], None] = lambda nbytes: None,
) -> Iterator[Finding]:
    """Findings about the machine whose proc, sys, etc, run and var are below `root`, and about this process.

    `software` is what is installed, by default found out by loading it. `disk` measures the cache's, with `progress` in
    bytes. Raises nothing for what it finds.
    """
    files, found = SystemFiles(root), boards.detect(root)
    cards = Cards() if root == _ROOT and not is_tegra(files) else None
    yield which_board(found, files)
    yield system(found, files)
    yield power_mode(found, files)
    yield cpu_clocks(found, files)
    yield temperature(found, files)
    yield power_meter(files, cards.read() if cards else ())
    if cards:
        cards.close()
    yield memory(root)
    yield swap(root)
    yield cache_folder(disk, progress)
    there = software or installed()
    yield from engines(there)
    yield from accelerators(found, files, there)
    yield instruction_sets(found, there)
    yield versions(there)
    yield offline(there)
    yield from files_not_usable(found)
