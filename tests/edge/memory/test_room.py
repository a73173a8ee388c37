"""What a board has, and what the machine at hand leaves of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import boards
from boards.survey import detect
from edge.memory.room import room_here, room_of
from tests.boards import trees
from tests.boards.trees import plant

MIB, GIB = 1 << 20, 1 << 30


def test_unified_memory_and_a_card() -> None:
    nano = room_of(boards.profile("jetson-orin-nano-8gb"))
    assert (nano.whole, nano.reserve, nano.engine, nano.on_card) == (int(7.6 * GIB), 768 * MIB, "cpu", False)
    card = room_of(boards.profile("rtx-3060"))
    assert (card.whole, card.engine, card.on_card) == (12 * 10**9, "tensorrt", True)
    assert card.where == "the card's own memory"


def test_marks() -> None:
    pi = room_of(boards.profile("raspberry-pi-5-8gb"))
    assert pi.bandwidth is not None
    assert not pi.bandwidth.confirmed
    assert pi.confirmed
    assert not room_of(boards.profile("rk3588-8gb")).confirmed


def test_modes_that_read_more_slowly_are_told() -> None:
    told = room_of(boards.profile("jetson-orin-nano-super-8gb")).notes
    assert told == ("in power mode 7W? and 15W? memory is read at 67% of that speed",)


def test_the_machine_at_hand_in_its_power_mode(tmp_path: Path) -> None:
    found = detect(plant(tmp_path, trees.ORIN_NANO), gpus=())
    here = room_here(found)
    assert here.board.name == "jetson-orin-nano-super-8gb"
    assert here.whole == found.memory
    assert here.bandwidth is not None
    assert here.bandwidth.value == 102e9
    assert here.notes == (f"power mode {found.power_mode}",)
    slow = room_here(replace(found, power_mode="15W"))
    assert slow.bandwidth is not None
    assert slow.bandwidth.value == 68e9


def test_a_limit_on_the_process(tmp_path: Path) -> None:
    found = detect(plant(tmp_path, trees.ORIN_NANO), gpus=())
    here = room_here(replace(found, memory_limit=2 * GIB))
    # What the board keeps for its system lies outside the group.
    assert (here.whole, here.reserve, here.where) == (2 * GIB, 2 * GIB // 20, "limit of a cgroup")
    wide = room_here(replace(found, memory_limit=int(7.5 * GIB)))
    assert (wide.whole, wide.reserve) == (found.memory, 768 * MIB)
    tight = room_here(replace(found, memory_limit=300 * MIB))
    assert tight.whole == 300 * MIB
    assert "the cgroup limit of 300 MiB is less than the 768 MiB that this board keeps" in tight.notes[0]
