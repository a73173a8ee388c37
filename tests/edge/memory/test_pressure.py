"""Memory that others take after a load: what is given back, in which order, and what is refused."""

from __future__ import annotations

import re
import threading
import weakref
from pathlib import Path

import pytest

import edge
from edge.cache.folder import stored_blocks
from edge.errors import MemoryBudgetError
from edge.memory.plan import make_plan
from edge.memory.pressure import Pressure, stalled_percent
from edge.memory.probe import available_bytes
from tests.edge.memory.test_plan import needs
from tests.runtimes.conformance import text

MIB = 1 << 20


class Machine:
    """So much is available, and gives back what is released as far as it holds it."""

    def __init__(self, available: int, held: int = 0) -> None:
        self.available, self.held = available, held
        self.asked: list[int] = []

    def release(self, nbytes: int) -> int:
        self.asked.append(nbytes)
        freed = min(nbytes, self.held)
        self.held -= freed
        self.available += freed
        return freed

    def pressure(self, root: Path = Path("/nowhere")) -> Pressure:
        plan = make_plan(needs(), 1000 * MIB)
        pressure = Pressure(plan, self.release, lambda: self.available, root)
        assert pressure.mark == plan.required.reserve // 2 == 25 * MIB
        return pressure


@pytest.mark.parametrize(
    ("available", "held", "asked", "admitted"),
    [
        (35 * MIB, 0, [], True),
        (34 * MIB, 5 * MIB, [MIB], True),
        (34 * MIB, 0, [MIB], False),
        (0, 40 * MIB, [35 * MIB], True),
        (0, 34 * MIB, [35 * MIB], False),
    ],
)
def test_ten_more_mebibytes(available: int, held: int, asked: list[int], admitted: bool) -> None:
    machine = Machine(available, held)
    pressure = machine.pressure()
    if admitted:
        pressure.admit(10 * MIB)
    else:
        with pytest.raises(MemoryBudgetError):
            pressure.admit(10 * MIB)
    assert machine.asked == asked


def test_a_refusal_has_numbers() -> None:
    with pytest.raises(
        MemoryBudgetError,
        match=re.escape(
            "100.0 MiB of KV memory are needed and the system has 60.0 MiB left, of which 25.0 are its reserve; "
            f"{35 * MIB // 12060} more tokens would fit: shorten the prompt, or free memory elsewhere"
        ),
    ):
        Machine(60 * MIB).pressure().admit(100 * MIB)


def test_a_card_is_watched_by_itself(tmp_path: Path) -> None:
    """By its own reserve, whatever waits for the host's memory; and the host's by what is left to it."""
    plan = make_plan(needs(), 1000 * MIB, host=4000 * MIB)
    file = tmp_path / "proc/pressure/memory"
    file.parent.mkdir(parents=True)
    file.write_text("full avg10=90.00 avg60=0.00 avg300=0.00 total=1\n")
    machine = Machine(20 * MIB, 500 * MIB)
    card = Pressure(plan, machine.release, lambda: 0, tmp_path, card_free=lambda: machine.available)
    assert card.mark == 25 * MIB
    assert [card.relieve(), card.relieve()] == [5 * MIB, 0]
    with pytest.raises(
        MemoryBudgetError, match=r"and the GPU has 520\.0 MiB left, of which 25\.0 are its reserve"
    ):
        card.admit(600 * MIB)
    assert Pressure(plan, machine.release, lambda: 0, tmp_path).mark == 100 * MIB


@pytest.mark.parametrize(
    ("available", "stalled", "released"),
    [
        (25 * MIB, "0.00", 0),
        (20 * MIB, "0.00", 5 * MIB),
        (500 * MIB, "4.99", 0),
        (500 * MIB, "5.00", 64 * MIB),
    ],
)
def test_what_is_idle_is_asked_to_give_way(
    tmp_path: Path, available: int, stalled: str, released: int
) -> None:
    file = tmp_path / "proc/pressure/memory"
    file.parent.mkdir(parents=True)
    file.write_text(
        "some avg10=90.00 avg60=0.00 avg300=0.00 total=1\n"
        f"full avg10={stalled} avg60=90.00 avg300=0.00 total=1\n"
    )
    assert stalled_percent(tmp_path) == float(stalled)
    assert Machine(available, 500 * MIB).pressure(tmp_path).relieve() == released


@pytest.mark.parametrize(("system", "group", "parent"), [(1, 7, 2), (7, 1, 2), (1, 2, 7)])
def test_a_group_that_waits_for_memory_on_a_machine_that_does_not(
    tmp_path: Path, system: int, group: int, parent: int
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/board/camera\n")
    for name, percent in (
        ("proc/pressure/memory", system),
        ("sys/fs/cgroup/board/camera/memory.pressure", group),
        ("sys/fs/cgroup/board/memory.pressure", parent),
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"some avg10=90.00 total=1\nfull avg10={percent}.00 total=1\n")
    assert stalled_percent(tmp_path) == 7


@pytest.mark.parametrize("text", ["", "full", "full avg10=x", "some avg10=9.00"])
def test_a_kernel_that_does_not_tell(tmp_path: Path, text: str) -> None:
    assert stalled_percent(tmp_path) == 0
    (tmp_path / "proc/pressure").mkdir(parents=True)
    (tmp_path / "proc/pressure/memory").write_text(text)
    assert stalled_percent(tmp_path) == 0


def test_a_thread_watches_until_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.memory.pressure._EVERY_S", 0.001)
    machine, relieved = Machine(0, 25 * MIB), threading.Event()
    release = machine.release

    def seen(nbytes: int) -> int:
        freed = release(nbytes)
        relieved.set()
        return freed

    machine.release = seen  # type: ignore[method-assign]
    pressure = machine.pressure()
    pressure.watch()
    assert relieved.wait(60)
    pressure.close()
    assert machine.available == 25 * MIB


def test_a_model_that_is_dropped_is_gone_at_once(tiny_artifact: Path) -> None:
    model = edge.load(tiny_artifact)
    list(model.generate([5] * 200, max_tokens=2).tokens())
    seen = [weakref.ref(model.cache), weakref.ref(model.engine), weakref.ref(model.cache.pressure)]
    del model
    assert [each() for each in seen] == [None] * 3


def test_mapped_weights_are_not_there_for_others(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    assert available_bytes(tmp_path) == 5000 << 10
    assert available_bytes(tmp_path, needed_files=2000 << 10) == 3000 << 10


def test_blocks_go_first_then_idle_chats_then_new_work_is_refused(
    tiny_artifact: Path, tmp_path: Path
) -> None:
    """The answer that is running goes on as far as there is memory, and its text is kept."""
    machine = Machine(1 << 40)
    with edge.load(tiny_artifact, store=tmp_path / "store") as model:
        pressure = model.cache.pressure
        assert pressure is not None
        pressure.close()
        pressure._available = lambda: machine.available
        prompt = text(1000)
        "".join(model.generate(prompt, max_tokens=2, temperature=0))
        chat = model.chat(max_tokens=2, ignore_eos=True)
        "".join(chat.send("hello " * 40))
        going = model.generate(text(600, seed=3), max_tokens=400, temperature=0, ignore_eos=True)
        tokens = going.tokens()
        said = [next(tokens), next(tokens)]
        assert model.cache.prefix is not None
        assert model.cache.prefix.nbytes > 0

        machine.available = pressure.mark - 1
        pressure.relieve()
        held = model.cache.prefix.nbytes
        assert chat.cache is not None

        machine.available = 0
        pressure.relieve()
        assert (model.cache.prefix.nbytes, chat.cache) == (0, None)
        assert held > 0
        assert len(list(stored_blocks(tmp_path / "store"))) > 20
        with pytest.raises(MemoryBudgetError, match="0 more tokens would fit"):
            "".join(model.generate(prompt, max_tokens=2))

        said += tokens
        assert going.finish_reason == "length"
        assert 2 < len(said) < 400
        assert going.token_ids == said

        machine.available = 1 << 40
        again = model.generate(prompt, max_tokens=2, temperature=0)
        "".join(again)
        assert again.cached_tokens == 960
        "".join(chat.send("and?"))
