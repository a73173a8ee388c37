"""Memory of a build is reckoned before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import MemoryBudgetError
from export.tensorrt.need import available_bytes, build_bytes, check_memory, workspace_bytes

MB, GB = 10**6, 10**9


@pytest.mark.parametrize(
    ("weight_bytes", "layers", "enough"),
    [
        # A tiny model, SmolLM2-135M in both forms and a 1.5B-shaped one, by limits they were built within.
        (60_000, 2, 340 << 20),
        (72 * MB, 30, 700 << 20),
        (72 * MB, 30, 850 << 20),
        (917 * MB, 28, 2640 * MB),
    ],
)
def test_the_reckoning_is_above_what_was_measured(weight_bytes: int, layers: int, enough: int) -> None:
    assert enough < build_bytes(weight_bytes, layers, 2) < 1.3 * enough


def test_what_is_too_much_is_refused() -> None:
    assert check_memory(2 * GB, 8 * GB, None) == 8 * GB
    assert check_memory(2 * GB, 8 * GB, 3 * GB) == 3 * GB
    assert check_memory(2 * GB, 8 * GB, 9 * GB) == 8 * GB
    with pytest.raises(MemoryBudgetError, match="about 2000 MB, and 1000 MB are free"):
        check_memory(2 * GB, GB, None)
    with pytest.raises(MemoryBudgetError, match="about 2000 MB, and 1000 MB are free"):
        check_memory(2 * GB, GB, 3 * GB)
    with pytest.raises(MemoryBudgetError, match=r"500 MB are allowed \(--memory\)"):
        check_memory(2 * GB, GB, GB // 2)


def test_a_unified_board_shares_its_memory_with_the_engine() -> None:
    assert workspace_bytes(8 * GB, 2 * GB, unified=False) == 1 << 30
    assert workspace_bytes(int(2.5 * GB), 2 * GB, unified=True) == GB // 2
    assert workspace_bytes(2 * GB, 2 * GB, unified=True) == 64 << 20


def test_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  5000 kB\n")
    assert available_bytes(tmp_path) == 5000 * 1024
    assert available_bytes() > 0
