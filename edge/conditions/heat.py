"""How warm a machine was, and whether it held itself back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from boards.files import SystemFiles
from boards.nvml import Reading
from boards.thermal import passive_trips, temperatures
from boards.throttling import throttle_counts, throttling

_MOST_SIGNS = 8


@dataclass(frozen=True)
class Temperature:
    """Degrees Celsius, of the warmest zone each time."""

    start: float
    end: float
    highest: float
    zone: str
    """That of the highest."""


@dataclass
class Heat:
    """What was seen of it in one run; each look reads some dozen small files."""

    _seen: list[dict[str, float]] = field(default_factory=list)
    _signs: dict[str, None] = field(default_factory=dict)
    _watched: dict[str, None] = field(default_factory=dict)
    _trips: dict[str, float] | None = None
    _counts: dict[str, int] | None = None

    def look(self, files: SystemFiles, cards: Sequence[Reading]) -> None:
        """What it is like now."""
        if self._trips is None:
            self._trips = passive_trips(files)
        degrees = temperatures(files)
        for card in cards:
            if card.reasons is not None:
                self._watched["NVML"] = None
                self._signs.update(dict.fromkeys(f"{card.name}: {why}" for why in card.reasons))
        told = throttling(files, degrees, self._trips)
        self._watched.update(dict.fromkeys(told.watched))
        self._signs.update(dict.fromkeys(told.now))
        degrees |= {card.name: card.degrees for card in cards if card.degrees is not None}
        warmest = dict(sorted(degrees.items(), key=lambda item: -item[1])[:1])
        # The first, the warmest and the last: a run may last for days.
        self._seen = [*self._seen[:1], *sorted(self._seen[1:], key=_degrees)[-1:], warmest]

    def count(self, files: SystemFiles) -> None:
        """What has happened so far, at the start and at the end."""
        counts = throttle_counts(files)
        if counts:
            self._watched["event counters"] = None
        before, self._counts = self._counts, counts
        for name, times in counts.items():
            # One that fell was reset, and says nothing of in between.
            if before is not None and times > before.get(name, times):
                self._signs[f"{name}: {times - before[name]} more"] = None

    @property
    def temperature(self) -> Temperature | None:
        """None where it was not known at the start or at the end."""
        if not self._seen or not (self._seen[0] and self._seen[-1]):
            return None
        highest = max(self._seen, key=_degrees)
        return Temperature(
            _degrees(self._seen[0]), _degrees(self._seen[-1]), _degrees(highest), next(iter(highest))
        )

    @property
    def throttled(self) -> bool | None:
        """None where nothing here can tell."""
        return bool(self._signs) if self._watched else None

    @property
    def signs(self) -> tuple[str, ...]:
        """What told of it."""
        return tuple(self._signs)[:_MOST_SIGNS]

    @property
    def watched(self) -> tuple[str, ...]:
        """What could have told of it."""
        return tuple(self._watched)


def _degrees(seen: dict[str, float]) -> float:
    return next(iter(seen.values()), float("-inf"))
