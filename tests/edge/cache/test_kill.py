"""Processes killed while they write blocks: the others find whole ones only, and no rubbish."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random

import pytest

from tests.edge.cache import dying as helper
from tests.edge.cache.dying import BUDGET, CHAIN, DATA, dying
from tests.edge.cache.samples import held_bytes, leftovers, open_disk

ENDLESS = 1 << 60


def whole_blocks(folder: Path) -> int:
    """How many there are; all that are there are right, and whoever opens the folder finds nothing else."""
    disk = open_disk(folder, BUDGET)
    assert not leftovers(folder)
    there = [block for block in CHAIN if disk.has(block)]
    for block, data in disk.read_all(there):
        assert data is not None
        assert bytes(data) == DATA[block]
    return len(there)


def test_a_process_killed_at_any_moment_leaves_no_wrong_block(tmp_path: Path) -> None:
    random, halves, wholes = Random(1), 0, 0
    with dying() as killer:
        for seed in range(200):
            killer.begin(helper.write_blocks, tmp_path, seed, random.randint(1, 1500), at_once=False)
            assert killer.killed()
            halves += len(leftovers(tmp_path))
            wholes += whole_blocks(tmp_path)
    assert halves
    assert wholes


def test_a_process_killed_at_each_call_leaves_no_wrong_block(tmp_path: Path) -> None:
    """From its beginning on, until it has written one."""
    halves = wholes = 0
    with dying() as killer:
        for calls in itertools.count(1):
            folder = tmp_path / str(calls)
            killer.begin(helper.write_blocks, folder, 7, calls)
            assert killer.killed()
            halves += len(leftovers(folder))
            wholes = whole_blocks(folder)
            if wholes == 2:
                break
    assert halves > 5


def test_processes_that_share_a_folder(tmp_path: Path) -> None:
    with dying() as first, dying() as second:
        for seed, process in enumerate((first, second)):
            process.begin(helper.share_blocks, tmp_path, seed, ENDLESS)
        assert not first.killed()
        assert not second.killed()
    # Each counts the folder again after a sixteenth of the budget.
    assert held_bytes(tmp_path) <= BUDGET * 5 // 4
    assert whole_blocks(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_a_process_goes_on_where_another_is_killed(tmp_path: Path, seed: int) -> None:
    with dying() as first, dying() as second:
        first.begin(helper.share_blocks, tmp_path, seed, ENDLESS)
        for calls in range(100, 1500, 100):
            second.begin(helper.write_blocks, tmp_path, calls, calls, at_once=False)
            assert second.killed()
        assert not first.killed()
    assert whole_blocks(tmp_path)
