"""What this machine can tell of the energy it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from boards.files import SystemFiles
from boards.nvml import Reading
from boards.rails import Rails, rails
from boards.rapl import counters
from edge.conditions.energy import Counter, Energy, Gauge

_CLOSED = (
    "RAPL: {} is for root only, since what it tells can give secrets away; to measure until the next start: "
    "sudo chmod o+r {}"
)
_GARBAGE = "RAPL: {} is no count of microjoules"
_NONE = "the system shows no power monitor: no INA3221, no RAPL, no NVML"

Cards = Sequence[Reading]


@dataclass(frozen=True)
class Meter:
    """One measurement of energy, as the sum of its parts."""

    source: str
    covers: str
    parts: tuple[Energy, ...]
    sample: Callable[[float, SystemFiles, Cards], None]
    """Take a reading of each part at a time."""

    def joules(self, windows: Sequence[tuple[float, float]]) -> float | None:
        """Taken in all of `windows`; None where a part does not know."""
        found = [part.between(*window) for part in self.parts for window in windows]
        known = [joules for joules in found if joules is not None]
        return sum(known) if len(known) == len(found) else None

    def fault(self, windows: Sequence[tuple[float, float]]) -> str:
        """Why the joules are not known; empty where they are."""
        return next(filter(None, (part.fault(*window) for part in self.parts for window in windows)), "")


def meters(files: SystemFiles, cards: Cards) -> tuple[tuple[Meter, ...], tuple[str, ...]]:
    """(the meters, that of the most first; what could measure and may not, or that there is nothing)."""
    found = [_of_rails(there)] if (there := rails(files)) else []
    processors, closed = _of_processors(files)
    found += [*processors, *(_of_card(i, card) for i, card in enumerate(cards))]
    found = [meter for meter in found if meter.parts]
    if not found and not closed:
        return (), (_NONE,)
    return tuple(found), closed


def _of_rails(there: Rails) -> Meter:
    gauge = Gauge()

    def sample(time: float, files: SystemFiles, cards: Cards) -> None:
        gauge.add(time, there.watts(files))

    return Meter(there.source, there.covers, (gauge,), sample)


def _of_processors(files: SystemFiles) -> tuple[list[Meter], tuple[str, ...]]:
    """RAPL: a package that cannot be read leaves all of it out, since a part is no whole."""
    there = counters(files)
    for counter in there:
        asked = SystemFiles(files.root)
        if counter.microjoules(asked) is None:
            # A file that cannot be opened is remembered, one that says something else is not.
            why = _CLOSED if asked.unreadable else _GARBAGE
            return [], (why.format(f"/{counter.file}", "/sys/class/powercap/intel-rapl:*/energy_uj"),)
    if not there:
        return [], ()
    parts = {counter: Counter(1e-6, counter.most) for counter in there}

    def sample(time: float, files: SystemFiles, cards: Cards) -> None:
        for counter, energy in parts.items():
            energy.add(time, counter.microjoules(files))

    names = " + ".join(counter.name for counter in there)
    memory = any("dram" in counter.name for counter in there)
    covers = "processor and memory" if memory else "the processor, without memory"
    return [Meter(f"RAPL, {names}", covers, tuple(parts.values()), sample)], ()


def _of_card(i: int, card: Reading) -> Meter:
    counts, tells = Counter(1e-3, None), Gauge()
    energy: Energy | None = (
        counts if card.millijoules is not None else tells if card.watts is not None else None
    )

    def sample(time: float, files: SystemFiles, cards: Cards) -> None:
        if i >= len(cards):
            return
        if energy is counts:
            counts.add(time, cards[i].millijoules)
        else:
            tells.add(time, cards[i].watts)

    return Meter(f"NVML, {card.name}", "the card, whatever works on it", (energy,) if energy else (), sample)


@dataclass
class Phases:
    """When prompts were read and answers decoded, as windows of time, and how many tokens that was."""

    prefill: list[tuple[float, float]]
    decode: list[tuple[float, float]]
    prompt_tokens: int = 0
    decoded_tokens: int = 0

    @classmethod
    def none(cls) -> Phases:
        """Before anything ran."""
        return cls([], [])

    def add(self, start: float, first: float, end: float, prompt_tokens: int, decoded_tokens: int) -> None:
        """An answer: its first token came at `first`, and `decoded_tokens` behind that until `end`."""
        self.prefill.append((start, first))
        self.decode.append((first, end))
        self.prompt_tokens += prompt_tokens
        self.decoded_tokens += decoded_tokens


def energy_report(found: Sequence[Meter], phases: Phases) -> list[Mapping[str, object]]:
    """What each meter says of the phases, in joules and watts; None is what it does not know, `fault` why."""
    return list(_reports(found, phases))


def _reports(found: Sequence[Meter], phases: Phases) -> Iterator[Mapping[str, object]]:
    seconds = sum(end - start for start, end in phases.decode)
    for meter in found:
        prefill, decode = meter.joules(phases.prefill), meter.joules(phases.decode)
        yield {
            "source": meter.source,
            "covers": meter.covers,
            "prefill_joules": prefill,
            "decode_joules": decode,
            "joules_per_prompt_token": _each(prefill, phases.prompt_tokens),
            "joules_per_token": _each(decode, phases.decoded_tokens),
            "decode_watts": _each(decode, seconds),
            "fault": meter.fault([*phases.prefill, *phases.decode]),
        }


def _each(whole: float | None, parts: float) -> float | None:
    return whole / parts if whole is not None and parts else None
