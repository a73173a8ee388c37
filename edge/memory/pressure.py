"""Pressure: memory that others took after the load. What can be given back is, then new work is refused."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

from boards.cgroup import group_folders
from edge.errors import MemoryBudgetError
from edge.memory.plan import Plan
from edge.memory.probe import available_bytes
from edge.memory.usage import resident

_MIB = 1 << 20
_EVERY_S = 1.0
# Of the time of the last ten seconds, in percent, in which every task waited for memory.
_STALLED = 5.0
_STALLED_RELEASE = 64 * _MIB
# A plan is right to some percent: of its reserve so much may be used up by that.
_MARK_PART = 2


class Pressure:
    """Keeps half of a plan's reserve free with `release`, which gives back so many bytes and returns how many.

    It is the memory of the host that is looked at, or that of a card, of which `card_free` are free.
    """

    def __init__(
        self,
        plan: Plan,
        release: Callable[[int], int],
        available: Callable[[], int] | None = None,
        root: Path = Path("/"),
        *,
        card_free: Callable[[], int] | None = None,
    ) -> None:
        required = plan.required if card_free is not None or plan.host is None else plan.host.required
        self.mark = required.reserve // _MARK_PART
        self._whose = "the GPU" if card_free is not None else "the system"
        self._token_bytes = max(1, plan.needs.kv_bytes_per_token)
        self._release = release
        self._root = root
        self._available = card_free or available or partial(_left, root)
        # Nothing that a card holds helps those who wait for the host's memory.
        self._stalls = card_free is None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def admit(self, nbytes: int) -> None:
        """Make sure that `nbytes` can be taken and the mark stays free.

        Raises:
            MemoryBudgetError: they cannot, whatever was given back.
        """
        there = self._available()
        if there < nbytes + self.mark:
            self._release(nbytes + self.mark - there)
            there = self._available()
        if there < nbytes + self.mark:
            tokens = max(0, there - self.mark) // self._token_bytes
            raise MemoryBudgetError(
                f"{nbytes / _MIB:.1f} MiB of KV memory are needed and {self._whose} has {there / _MIB:.1f} MiB left, "
                f"of which {self.mark / _MIB:.1f} are its reserve; {tokens} more tokens would fit: shorten the prompt, "
                "or free memory elsewhere"
            )

    def relieve(self) -> int:
        """Give memory back where less than the mark is free, or where tasks wait for memory; bytes given back."""
        missing = self.mark - self._available()
        if missing <= 0 and self._stalls and stalled_percent(self._root) >= _STALLED:
            missing = _STALLED_RELEASE
        return self._release(missing) if missing > 0 else 0

    def watch(self) -> None:
        """Relieve every second from now on, in a thread, until `close`: what is idle asks for no memory itself."""
        self._thread = threading.Thread(
            target=_watch, args=(weakref.ref(self), self._ended), name="memory-pressure", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._ended.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()


def _left(root: Path) -> int:
    # The system counts mapped weights as available, and decoding needs them all.
    return available_bytes(root, needed_files=resident().file)


def _watch(watched: weakref.ref[Pressure], ended: threading.Event) -> None:
    """Until it is closed, or nobody has it any more: a model may be dropped without `close`."""
    while not ended.wait(_EVERY_S):
        pressure = watched()
        if pressure is None:
            return
        pressure.relieve()
        del pressure


def stalled_percent(root: Path = Path("/")) -> float:
    """Part of the last ten seconds in which every task waited for memory; 0 if unknown.

    It is the most of what Linux PSI says, `full avg10`, of the system and of the cgroups this process is in.
    """
    files = [root / "proc/pressure/memory", *(group / "memory.pressure" for group in group_folders(root))]
    return max(map(_full, files))


def _full(file: Path) -> float:
    try:
        text = file.read_text()
        full = next(line for line in text.splitlines() if line.startswith("full "))
        return float(full.split()[1].removeprefix("avg10="))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0.0
