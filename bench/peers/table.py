"""The results of bench.peers.run as Markdown tables.

python -m bench.peers.table results.jsonl [--against "edgewise int4"]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from bench.peers.figures import MEMORY, SPEED, Column, Results, Spread


@click.command()
@click.argument("results", type=click.Path(path_type=Path, exists=True))
@click.option("--against", default="edgewise int4", show_default=True, help="Ratios are to this competitor.")
def main(results: Path, against: str) -> None:
    """Print the RESULTS of bench.peers.run as Markdown.

    A cell is the median over the rounds (least-most, number of rounds), and the ratio to the competitor
    that --against names. The ratio is taken in each round, where both ran within minutes of each other; of
    those again the median (least-most).
    """
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    click.echo("\n".join(_tables(lines, against)))


def _tables(lines: Sequence[dict[str, Any]], against: str) -> Iterator[str]:
    failures: list[str] = []
    contests = list(dict.fromkeys((line["model"], line["threads"]) for line in lines))
    for model, threads in contests:
        found = Results([line for line in lines if (line["model"], line["threads"]) == (model, threads)])
        yield f"## {model}, {threads} thread{'s' * (threads != 1)}"
        yield ""
        if spread := Spread.of([speed / 1e9 for speed in found.bandwidth.values()]):
            yield f"Read bandwidth {_spread(spread, 1)} GB/s."
            yield ""
        for columns in (SPEED, MEMORY):
            yield from _table(found, columns, against)
            yield ""
        failures += [f"- {model}, {_escaped(text)}" for text in found.failures]
    if failures:
        yield from ("## Failed runs", "", *failures, "")


def _table(found: Results, columns: Sequence[Column], against: str) -> Iterator[str]:
    shown = [column for column in columns if any(found.values(name, column) for name in found.competitors)]
    if not shown:
        return
    yield "| | " + " | ".join(column.title for column in shown) + " |"
    yield "|---|" + "---|" * len(shown)
    for name in found.competitors:
        yield f"| {name} | " + " | ".join(_cell(found, name, column, against) for column in shown) + " |"


def _cell(found: Results, name: str, column: Column, against: str) -> str:
    values = found.values(name, column)
    spread = Spread.of(list(values.values()))
    if spread is None:
        return "-"
    if column.constant:
        return f"{spread.median:.{column.digits}f}"
    text = _spread(spread, column.digits)
    base = found.values(against, column)
    ratio = Spread.of([value / base[round] for round, value in values.items() if base.get(round)])
    if name == against or ratio is None or not column.compared:
        return text
    return f"{text} · {ratio.median:.2f}× ({ratio.least:.2f}–{ratio.most:.2f})"


def _spread(spread: Spread, digits: int) -> str:
    return f"{spread.median:.{digits}f} ({spread.least:.{digits}f}–{spread.most:.{digits}f}, {spread.count})"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:300]


if __name__ == "__main__":
    main()
