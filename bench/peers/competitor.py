"""The competitors, as a configuration names them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

_KEYS = {"name", "adapter", "python", "model"}


@dataclass(frozen=True, kw_only=True)
class Competitor:
    """A runtime on one model: `adapter` is the module that `python` runs, `model` a file or folder."""

    name: str
    adapter: str
    python: Path
    model: Path
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Contest:
    """The competitors on one model; `bandwidth` is the Python that measures how fast memory is read."""

    model: str
    prompts: Path
    bandwidth: Path
    competitors: tuple[Competitor, ...]


def read_contests(config: Path, models: Path, pythons: Path) -> list[Contest]:
    """A contest for every model that the JSON file `config` names.

    {models}, {pythons} and {model} in it stand for the two folders and the model's name; a relative path of a
    Python is taken from the current folder.

    Raises:
        click.ClickException: no JSON, or a key is missing or unknown.
    """
    try:
        data = json.loads(config.read_text())
    except (OSError, ValueError) as e:
        raise click.ClickException(f"{config} cannot be read as JSON: {e}") from None
    missing = {"models", "bandwidth", "competitors"} - set(data)
    if missing:
        raise click.ClickException(f"{config} has no {', '.join(sorted(missing))}")
    contests = []
    for name in data["models"]:
        places = {"models": str(models.resolve()), "pythons": str(pythons.absolute()), "model": name}
        contests.append(
            Contest(
                model=name,
                prompts=models.resolve() / f"{name}.prompts.json",
                bandwidth=Path(data["bandwidth"].format(**places)),
                competitors=tuple(_competitor(config, entry, places) for entry in data["competitors"]),
            )
        )
    return contests


def _competitor(config: Path, entry: dict[str, Any], places: dict[str, str]) -> Competitor:
    if not _KEYS <= set(entry) <= _KEYS | {"env"}:
        raise click.ClickException(
            f"{config}: competitor {entry.get('name', entry)} has the keys {', '.join(sorted(entry))}; "
            f"it needs {', '.join(sorted(_KEYS))}, and may have env"
        )
    return Competitor(
        name=entry["name"],
        adapter=entry["adapter"],
        python=Path(entry["python"].format(**places)),
        model=Path(entry["model"].format(**places)),
        env={key: value.format(**places) for key, value in entry.get("env", {}).items()},
    )


def in_order(competitors: Sequence[Competitor], round: int) -> list[Competitor]:
    """The competitors in the order of this round: A B C, then B C A, then C A B.

    A slow spell of the machine, or a turn behind one that leaves it hot, so meets each of them.
    """
    first = round % max(1, len(competitors))
    return [*competitors[first:], *competitors[:first]]
