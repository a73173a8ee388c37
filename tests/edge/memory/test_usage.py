from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from edge.memory.usage import Resident, peak_rss_bytes, resident

STATUS = """Name:\tpython
VmHWM:\t   40000 kB
VmRSS:\t   30000 kB
RssAnon:\t   20000 kB
RssFile:\t    9000 kB
RssShmem:\t    1000 kB
Threads:\t3
"""


def test_reads_what_linux_tells(tmp_path: Path) -> None:
    (tmp_path / "status").write_text(STATUS)
    assert resident(tmp_path / "status") == Resident(20000 << 10, 9000 << 10, 1000 << 10)
    assert peak_rss_bytes(tmp_path / "status") == 40000 << 10


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert resident(tmp_path / "none") == Resident(0, 0, 0)
    assert peak_rss_bytes(tmp_path / "none") > 1 << 20
    (tmp_path / "old").write_text("VmRSS:\t   30000 kB\nVmHWM:\nbroken\n")
    assert resident(tmp_path / "old") == Resident(0, 0, 0)


def test_memory_taken_here_is_anonymous() -> None:
    before = resident()
    # Mapped anew: an array might be given pages that the process has already.
    taken = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    np.frombuffer(taken, np.uint8)[::4096] = 1
    after = resident()
    assert after.anonymous - before.anonymous > 60 << 20
    assert after.file - before.file < 8 << 20
    assert peak_rss_bytes() >= len(taken)


def test_memory_mapped_from_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(64 << 20))
    before = resident()
    mapped = np.memmap(tmp_path / "weights", np.uint8, "r")
    assert int(mapped[::4096].sum()) == 0
    after = resident()
    assert after.file - before.file > 60 << 20
    assert after.anonymous - before.anonymous < 8 << 20
