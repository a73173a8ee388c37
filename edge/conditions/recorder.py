"""Watches a run: a thread that reads a few small files a few times a second, and looks at both ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from boards.files import SystemFiles
from boards.nvml import Cards, Reading
from boards.tegra import is_tegra
from edge.conditions.heat import Heat
from edge.conditions.meters import Phases, energy_report, meters

PERIOD = 0.25
"""Seconds between readings of power."""
_HEAT_EVERY = 4

Ask = Callable[[], Sequence[Reading]]


class Recorder:
    """Used as a context around a run; `mark` tells it where a phase begins.

    `root` is where proc and sys are found. `ask` reads the cards: by default those of NVML, where `root` is this
    machine's own and no Jetson, whose rails tell more.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        ask: Ask | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._root, self._clock = root, clock
        files = SystemFiles(root)
        self._cards = Cards() if ask is None and root == Path("/") and not is_tegra(files) else None
        self._ask: Ask = ask or (self._cards.read if self._cards else tuple)
        self.meters, self.missing = meters(files, self._ask())
        self.heat = Heat()
        self.phases = Phases.none()
        # A mark and the thread may read at the same time.
        self._busy = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="conditions", daemon=True)
        self.fault = ""
        """What ended the watching before its time."""

    def __enter__(self) -> Recorder:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.look()
        if self._cards:
            self._cards.close()

    def mark(self) -> float:
        """The time, with a reading of power at it."""
        return self.sample()

    def sample(self) -> float:
        """Read power now; the time that it was."""
        with self._busy:
            now = self._clock()
            if self.meters:
                files, cards = SystemFiles(self._root), self._ask()
                for meter in self.meters:
                    meter.sample(now, files, cards)
            return now

    def look(self) -> None:
        """Read everything now: what is done at both ends."""
        self.sample()
        self._look_at_heat()
        self.heat.count(SystemFiles(self._root))

    def report(self) -> dict[str, Any]:
        """What was seen: degrees Celsius, joules, watts; null where the machine does not tell."""
        seen = self.heat.temperature
        return {
            "temperature_c": None
            if seen is None
            else {"start": seen.start, "end": seen.end, "highest": seen.highest, "zone": seen.zone},
            "throttled": self.heat.throttled,
            "throttled_by": list(self.heat.signs),
            "throttling_watched": list(self.heat.watched),
            "energy": energy_report(self.meters, self.phases),
            "energy_missing": list(self.missing),
            "fault": self.fault,
        }

    def _look_at_heat(self) -> None:
        with self._busy:
            self.heat.look(SystemFiles(self._root), self._ask())

    def _work(self) -> None:
        turn = 0
        try:
            while not self._stop.wait(PERIOD):
                turn += 1
                if self.meters:
                    self.sample()
                if turn % _HEAT_EVERY == 0:
                    self._look_at_heat()
        except Exception as e:  # the run matters more than what is seen of it
            self.fault = f"watching ended early: {e or type(e).__name__}"
