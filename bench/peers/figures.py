"""The figures of a comparison: one value a competitor and round, and what is made of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Run = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """Median, least, most and number of some values."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of `values`; None where there are none."""
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Column:
    """A figure: `value` makes it of a run and the bandwidth of its round in bytes/s, and may give None."""

    title: str
    digits: int
    value: Callable[[Run, float | None], float | None]
    compared: bool = True
    """Whether a ratio to another competitor says anything."""
    constant: bool = False
    """Whether it is the same in each round."""


class Results:
    """The runs on one model with one number of threads."""

    def __init__(self, lines: Sequence[Run]) -> None:
        runs = [line for line in lines if line["kind"] == "run"]
        self.competitors = list(dict.fromkeys(run["competitor"] for run in runs))
        self.bandwidth = {
            line["round"]: line["bytes_per_s"] for line in lines if line["kind"] == "bandwidth" and line["ok"]
        }
        """Bytes per second that memory was read at in each round."""
        self.failures = [
            f"round {line['round']}, {line.get('competitor', 'read bandwidth')}: {line['error']}"
            for line in lines
            if not line["ok"]
        ]
        self._runs = [run for run in runs if run["ok"]]

    def values(self, competitor: str, column: Column) -> dict[int, float]:
        """The figure of each round in which the competitor has one."""
        found = {}
        for run in self._runs:
            if run["competitor"] == competitor:
                value = column.value(run, self.bandwidth.get(run["round"]))
                if value is not None:
                    found[run["round"]] = value
        return found


def _rate(phase: str, kind: str) -> Callable[[Run, float | None], float | None]:
    """Tokens per second of a run: the median of its repetitions."""

    def value(run: Run, bandwidth: float | None) -> float | None:
        found = run["phases"].get(phase)
        return statistics.median(one[f"{kind}_tokens_per_s"] for one in found) if found else None

    return value


def _memory(phase: str, kind: str) -> Callable[[Run, float | None], float | None]:
    return lambda run, bandwidth: run["memory"].get(phase, {}).get(kind)


def _fraction(run: Run, bandwidth: float | None) -> float | None:
    rate = _decode(run, bandwidth)
    if rate is None or bandwidth is None or run["decode_bytes"] is None:
        return None
    return rate * float(run["decode_bytes"]) / bandwidth


def _megabytes(run: Run, bandwidth: float | None) -> float | None:
    return None if run["decode_bytes"] is None else float(run["decode_bytes"]) / 1e6


_decode = _rate("decode", "decode")

SPEED = (
    Column("decode tokens/s", 1, _decode),
    Column("prefill 512 tokens/s", 0, _rate("prefill", "prefill")),
    Column("decode at 4096 tokens/s", 1, _rate("long", "decode")),
    Column("prefill 4096 tokens/s", 0, _rate("long", "prefill")),
    Column("MB/token", 0, _megabytes, constant=True),
    Column("of read bandwidth", 2, _fraction, compared=False),
)
MEMORY = (
    Column("RSS after load MiB", 0, _memory("loaded", "peak")),
    Column("RSS after 512 MiB", 0, _memory("prefill", "peak")),
    Column("anonymous after 512 MiB", 0, _memory("prefill", "anonymous")),
    Column("RSS after 4096 MiB", 0, _memory("long", "peak")),
    Column("load s", 2, lambda run, bandwidth: float(run["import_s"]) + float(run["load_s"])),
    Column("start to first token s", 2, lambda run, bandwidth: float(run["start_to_first_s"])),
)
