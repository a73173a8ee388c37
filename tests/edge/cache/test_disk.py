"""Blocks on the disk: what is read is what was written, and the budget holds."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from edge.cache.block import Block
from edge.cache.folder import BLOCKS, SESSIONS, make_folder
from edge.cache.record import PART
from tests.edge.cache.samples import (
    FINGERPRINT,
    chain,
    data_of,
    held_bytes,
    leftovers,
    open_disk,
    path_of,
    read,
)

OTHER = "0" * 32
CHAINS = {fingerprint: chain(8, fingerprint) for fingerprint in (FINGERPRINT, OTHER)}
INDEX = st.integers(0, 7)
# More than the header of a block takes.
HEADER = 2000


class DiskAndDictionary(RuleBasedStateMachine):
    """One process after the other, of two models."""

    budget = 60_000

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp())
        self.written: dict[str, bytes] = {}
        self.count = 0

    @initialize(fingerprint=st.sampled_from(sorted(CHAINS)))
    def begin(self, fingerprint: str) -> None:
        self.reopen(fingerprint)

    @rule(fingerprint=st.sampled_from(sorted(CHAINS)))
    def reopen(self, fingerprint: str) -> None:
        self.chain = CHAINS[fingerprint]
        self.disk = open_disk(self.folder, self.budget, fingerprint)

    @rule(index=INDEX, size=st.integers(0, 12_000))
    def write(self, index: int, size: int) -> None:
        block, others = self.chain[index], self.there()
        self.count += 1
        before, taken = self.disk.has(block), held_bytes(self.folder)
        data = bytes([self.count % 256]) * size
        assert self.disk.write(block, data)
        if not before:
            self.written[block.key] = data
        assert read(self.disk, block) == self.written[block.key]
        if taken + size + HEADER <= self.budget:
            assert others <= self.there()

    @rule(size=st.integers(1, 1000))
    def write_more_than_there_may_be(self, size: int) -> None:
        others = self.there()
        absent = next((block for block in self.chain if block.key not in others), None)
        assert absent is None or not self.disk.write(absent, bytes(self.budget + size))
        assert self.there() == others

    @rule(indices=st.lists(INDEX, unique=True))
    def touch(self, indices: list[int]) -> None:
        others = self.there()
        self.disk.touch([self.chain[index] for index in indices])
        assert self.there() == others

    @rule(index=INDEX, fingerprint=st.sampled_from(sorted(CHAINS)))
    def remove(self, index: int, fingerprint: str) -> None:
        """Another process does."""
        path_of(self.folder, CHAINS[fingerprint][index], fingerprint).unlink(missing_ok=True)

    @invariant()
    def what_is_read_was_written(self) -> None:
        for (block, ahead), expected in zip(self.disk.read_all(self.chain), self.chain, strict=True):
            data = read(self.disk, block)
            assert block == expected
            assert (ahead is None) == (data is None) == (not self.disk.has(block))
            assert data is None or ahead == memoryview(data)
            assert data is None or data == self.written[block.key]

    def there(self) -> set[str]:
        return {path.stem for path in (self.folder / BLOCKS).rglob("*.kv")}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


def test_what_is_read_is_what_was_written() -> None:
    run_state_machine_as_test(
        DiskAndDictionary, settings=settings(deadline=None, max_examples=50, stateful_step_count=25)
    )


@settings(deadline=None, max_examples=30)
@example(budget=32_000, sizes=[15_000, 15_000, 400, 400, 400])
@given(budget=st.integers(3000, 30_000), sizes=st.lists(st.integers(0, 8000), min_size=1, max_size=20))
def test_the_folder_never_holds_more_than_the_budget(budget: int, sizes: list[int]) -> None:
    folder = Path(mkdtemp())
    try:
        disk = open_disk(folder, budget)
        for block, size in zip(chain(len(sizes)), sizes, strict=True):
            disk.write(block, bytes(size))
            assert held_bytes(folder) <= budget
    finally:
        shutil.rmtree(folder)


def filled(folder: Path, blocks: list[Block], fingerprint: str = FINGERPRINT) -> int:
    """Write `blocks`, the first of which was used first; a budget that has no room for another."""
    disk = open_disk(folder, fingerprint=fingerprint)
    for i, block in enumerate(blocks):
        assert disk.write(block, bytes(10_000))
        os.utime(path_of(folder, block, fingerprint), (i, i))
    return held_bytes(folder) + 1000


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    blocks = chain(11)
    disk = open_disk(tmp_path, filled(tmp_path, blocks[:10]))
    disk.touch([blocks[0]])
    assert disk.write(blocks[10], bytes(10_000))
    assert [disk.has(block) for block in blocks] == [True, False, False, *[True] * 8]


def test_the_blocks_of_another_model_make_room_too(tmp_path: Path) -> None:
    theirs = chain(10, OTHER)
    disk = open_disk(tmp_path, filled(tmp_path, theirs, OTHER))
    assert disk.write(chain(1)[0], bytes(10_000))
    other = open_disk(tmp_path, fingerprint=OTHER)
    assert [other.has(block) for block in theirs] == [False, False, *[True] * 8]


def test_of_a_chain_that_was_used_the_beginning_was_used_last(tmp_path: Path) -> None:
    blocks = chain(8)
    filled(tmp_path, blocks)
    open_disk(tmp_path).touch(blocks)
    used = [path_of(tmp_path, block).stat().st_mtime_ns for block in blocks]
    assert all(first > second for first, second in pairwise(used))


@pytest.mark.parametrize("used", [4e9, 1e11], ids=["2096", "5138"])
def test_a_block_from_when_the_clock_was_ahead_goes_like_any_other(tmp_path: Path, used: float) -> None:
    blocks = chain(1000)
    budget = filled(tmp_path, blocks[:5])
    for block in blocks[:5]:
        os.utime(path_of(tmp_path, block), (used, used))
    disk = open_disk(tmp_path, budget)
    ahead = blocks[:5]
    for block in blocks[5:]:
        assert disk.write(block, data_of(block))
        assert read(disk, block) == data_of(block)
        ahead = [block for block in ahead if disk.has(block)]
        if not ahead:
            break
    assert not ahead


def test_a_block_from_before_there_were_clocks_is_read(tmp_path: Path) -> None:
    [block] = chain(1)
    disk = open_disk(tmp_path)
    disk.write(block, b"kv")
    os.utime(path_of(tmp_path, block), (-1e9, -1e9))
    assert read(disk, block) == b"kv"
    assert disk.write(chain(2)[1], b"kv")


def test_a_file_under_the_name_of_another_block_is_not_read(tmp_path: Path) -> None:
    first, second = chain(2)
    disk = open_disk(tmp_path)
    disk.write(first, b"kv")
    path_of(tmp_path, first).rename(path_of(tmp_path, second))
    assert read(disk, first) is None
    assert read(disk, second) is None


def test_an_artifact_that_was_renamed_has_its_blocks(tmp_path: Path) -> None:
    """Its name is no part of the fingerprint."""
    [block] = chain(1)
    assert open_disk(tmp_path, model="before").write(block, b"kv")
    assert read(open_disk(tmp_path, model="after"), block) == b"kv"


@contextmanager
def nothing_masked() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("there_before", [False, True], ids=["new", "open to all"])
def test_only_the_owner_sees_it(tmp_path: Path, there_before: bool) -> None:
    folder = tmp_path / "cache"
    with nothing_masked():
        if there_before:
            (folder / BLOCKS).mkdir(parents=True)
        assert open_disk(folder).write(chain(1)[0], b"kv")
    modes = {path.is_dir(): path.stat().st_mode & 0o7777 for path in folder.rglob("*")}
    assert modes == {True: 0o700, False: 0o600}
    # One that was there may be for other things too.
    assert folder.stat().st_mode & 0o7777 == (0o777 if there_before else 0o700)


def test_what_the_dead_left_is_removed_and_what_the_living_write_is_not(tmp_path: Path) -> None:
    disk = open_disk(tmp_path)
    disk.write(chain(1)[0], b"kv")
    folders = [tmp_path / SESSIONS, tmp_path / BLOCKS / FINGERPRINT]
    dead = [folder / f".x.1.0{PART}" for folder in folders]
    living = [folder / f".x.1.1{PART}" for folder in folders]
    for path in (*dead, *living):
        path.write_bytes(b"half")
    files = [path.open("rb") for path in living]
    for file in files:
        fcntl.flock(file, fcntl.LOCK_EX)
    make_folder(tmp_path)
    assert sorted(leftovers(tmp_path)) == sorted(living)
    for file in files:
        file.close()
    make_folder(tmp_path)
    assert not leftovers(tmp_path)
    assert read(disk, chain(1)[0]) == b"kv"
