"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from runtimes.protocol import Engine

F = TypeVar("F", bound=Callable[..., Any])


def output_options(command: F) -> F:
    """Add --json and --quiet, given to the command as `as_json` and `quiet`."""
    quiet = click.option("--quiet", "-q", is_flag=True, help="Print no progress bars and no remarks.")
    as_json = click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else there."
    )
    return as_json(quiet(command))


def print_json(data: Any) -> None:
    """Print `data` on stdout, readable in any encoding."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def print_table(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print `rows` with their columns aligned; those numbered in `right` to the right."""
    table = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in table if i < len(row)) for i in range(max(map(len, table)))]
    for row in table:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        click.echo("  ".join(cells).rstrip())


def remark(text: str) -> None:
    """Print a line on stderr: for people, beside the output proper."""
    click.echo(text, err=True)


def remark_passed_over(engine: Engine) -> None:
    """Say that a slower engine runs than the artifact is for, and what would change that."""
    if engine.passed_over:
        remark(f"slower than it could be: engine {engine.name} runs this, not {engine.passed_over}")


def size(nbytes: float) -> str:
    """Bytes as people read them, in decimal units: 71.4 MB."""
    if nbytes < 1000:
        return f"{nbytes:.0f} B"
    return _scaled(nbytes / 1000, ("kB", "MB", "GB", "TB"))


def count(number: float) -> str:
    """A count as people read it: 134.5 M."""
    return f"{number:.0f}" if number < 1000 else _scaled(number / 1000, ("k", "M", "B", "T"))


def seconds(value: float) -> str:
    """A duration: 85 ms, 1.2 s, 3 min 20 s."""
    if value < 0.9995:
        return f"{1000 * value:.0f} ms"
    if value < 99.95:
        return f"{value:.1f} s"
    return "{} min {} s".format(*divmod(round(value), 60))


def _scaled(value: float, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if value < 999.95:
            return f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {units[-1]}"
