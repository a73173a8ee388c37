"""`edge plan --board`, `--all-boards` and `--all-recipes`: a model on a board, as it would be exported for it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

import boards
from edge.cli.output import print_json, print_table, size
from edge.cli.plan_table import mib, plan_report, plan_rows, verdict
from edge.cli.planned_source import PlannedSource, read_planned
from edge.cli.written import write_picture
from edge.errors import InvalidArgument
from edge.memory.choice import CONTEXT, Choice, choose, measure
from edge.memory.picture import picture
from edge.memory.recipe import Wishes
from edge.memory.room import Room, room_here, room_of

THIS = "this"
"""What stands for the machine at hand in place of a board's name."""
_LEGEND = (
    "? is not confirmed: it is, or rests on, a figure that is from memory or assumed (edge boards show NAME)"
)
_MOST_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line asks of a board."""

    source: str
    context: int | None
    sessions: int
    prefix_cache: int | None
    wishes: Wishes

    def choose(self, model: PlannedSource, room: Room) -> Choice:
        """See `edge.memory.choice.choose`."""
        return choose(
            model.recipes(room, self.wishes),
            room,
            context=self.context,
            sessions=self.sessions,
            prefix_cache=self.prefix_cache,
            held=model.held,
        )

    def everywhere(self, model: PlannedSource) -> tuple[list[Choice], dict[str, str]]:
        """The choice of every board that is known, and of those that cannot have what is asked, why.

        Raises:
            InvalidArgument: none can.
        """
        choices, refused = [], {}
        for profile in boards.profiles():
            try:
                choices.append(self.choose(model, room_of(profile)))
            except InvalidArgument as e:
                refused[profile.name] = str(e)
        if not choices and refused:
            raise InvalidArgument(next(iter(refused.values())))
        return choices, refused


def room(name: str) -> Room:
    """Of a board by its name, or of the machine at hand.

    Raises:
        UnknownBoard, ProfileError
    """
    if name != THIS:
        return room_of(boards.profile(name))
    found = boards.detect()
    if found.board.bandwidth_gb_s is None and found.board.unified.value:
        from edge.memory.bandwidth import read_bandwidth
        from runtimes import default_threads

        found = boards.detect(bandwidth=read_bandwidth(default_threads(), rounds=4))
    return room_here(found)


def plan_one(asked: Asked, board: str, plot: Path | None, *, as_json: bool) -> None:
    """One board: the table, the recipe and why, the ceilings; where nothing fits, what would."""
    there = room(board)
    model = read_planned(asked.source)
    choice = asked.choose(model, there)
    elsewhere = [] if choice.fits else _fitting(asked, model)
    if plot:
        write_picture(plot, picture(f"{model.name} on {there.board.title}", [(there.board.name, choice)]))
    if as_json:
        report = choice_report(choice) | plan_report(choice.plan)
        notes = [*report["notes"], *there.notes]
        fits_on = {} if choice.fits else {"fits_on": [c.room.board.name for c in elsewhere]}
        print_json(report | {"notes": notes} | fits_on)
        return
    _print_one(choice)
    if not choice.fits:
        click.echo(_fits_on(elsewhere, model, asked.source))


def plan_boards(asked: Asked, plot: Path | None, *, as_json: bool) -> None:
    """One model over all boards."""
    model = read_planned(asked.source)
    choices, refused = asked.everywhere(model)
    if plot:
        rows = [(choice.room.board.name, choice) for choice in choices]
        write_picture(plot, picture(f"{model.name} on all boards", rows))
    if as_json:
        print_json(
            {
                "boards": [_short_report(choice) for choice in choices],
                "left_out": refused,
                "faults": [str(fault) for fault in boards.catalogue().faults.values()],
            }
        )
        return
    _print_matrix([(choice.room.board.name, choice) for choice in choices], "board", recipe=True)
    fitting = sum(choice.fits for choice in choices)
    click.echo(f"\nfits {fitting} of {len(choices)} boards")
    if not fitting:
        least = min(choices, key=lambda choice: choice.missing)
        click.echo(f"nearest: {least.room.board.name}, where {mib(least.missing)} MiB are missing")
    if refused:
        click.echo(f"left out: {', '.join(refused)} ({next(iter(refused.values()))})")
    _print_legend(choices)


def plan_recipes(asked: Asked, board: str, plot: Path | None, *, as_json: bool) -> None:
    """One board over all recipes, with the one that would be chosen marked."""
    there = room(board)
    model = read_planned(asked.source)
    chosen = asked.choose(model, there)
    context = chosen.plan.context
    choices = [
        measure(recipe, there, context=context, sessions=asked.sessions, prefix_cache=asked.prefix_cache)
        for recipe in model.every(there, asked.wishes.engine)
    ]
    rows = [(choice.recipe.text, choice) for choice in choices]
    if plot:
        write_picture(plot, picture(f"{model.name} on {there.board.title}, {context} tokens", rows))
    if as_json:
        short = [_short_report(c) | {"chosen": _same(c, chosen)} for c in choices]
        print_json({"board": board_report(there), "context": context, "recipes": short})
        return
    marked = [(f"{name}{' *' * _same(choice, chosen)}", choice) for name, choice in rows]
    _print_matrix(marked, "recipe", recipe=False)
    click.echo(
        f"\n{context} tokens of context; on {there.board.title}, {mib(there.whole)} MiB: {there.where}"
    )
    if any(_same(choice, chosen) for choice in choices):
        click.echo("* is what edge export --board would take")
    _print_legend(choices)


def choice_report(choice: Choice) -> dict[str, Any]:
    """What `--board` adds to the JSON of a plan."""
    return {
        "board": board_report(choice.room),
        "recipe": choice.recipe_json(),
        "decode_tokens_per_s_ceiling": [ceiling.to_json() for ceiling in choice.ceilings],
        "missing_bytes": choice.missing,
    }


def board_report(there: Room) -> dict[str, Any]:
    """A board as plans have it; sizes in bytes, bandwidth in bytes a second."""
    return {
        "name": there.board.name,
        "title": there.board.title,
        "memory_bytes": there.whole,
        "reserve_bytes": there.reserve,
        "memory_confirmed": there.confirmed,
        "reserve_confirmed": there.board.reserve_mib.confirmed,
        "memory": there.where,
        "bandwidth_bytes_per_s": asdict(there.bandwidth) if there.bandwidth else None,
    }


def print_choice(choice: Choice) -> None:
    """The recipe, why, and how fast it can be."""
    click.echo(f"recipe: {choice.recipe.text}, engine {choice.recipe.engine}")
    for reason in choice.reasons:
        click.echo(f"  {reason}")
    if not choice.fits:
        return
    if not choice.ceilings:
        click.echo("decode: nobody measured how fast this board reads memory")
        return
    short, whole = choice.ceilings
    told = (
        f"{_speed(choice, 0)} tokens/s at {short.context} tokens and {_speed(choice, 1)} at {whole.context}"
    )
    bandwidth = choice.room.bandwidth
    assert bandwidth
    mark = "" if bandwidth.confirmed else "?"
    click.echo(
        f"decode: at most {told}: {size(bandwidth.value)}/s{mark} ÷ "
        f"{size(short.bytes_per_token)} and {size(whole.bytes_per_token)} that a token reads"
    )


def _print_one(choice: Choice) -> None:
    there = choice.room
    where = f"{there.board.title}: {there.where}{'' if there.confirmed else '?'}"
    mark = "" if there.board.reserve_mib.confirmed else "?"
    print_table(plan_rows(choice.plan, where, mark), right=(1,))
    click.echo()
    click.echo(verdict(choice.plan, advice=False))
    click.echo()
    print_choice(choice)
    for note in there.notes:
        click.echo(note)
    _print_legend([choice])


def _print_matrix(rows: Sequence[tuple[str, Choice]], first: str, *, recipe: bool) -> None:
    table = [
        (
            first,
            "fits",
            *(("weights", "KV") if recipe else ()),
            "context",
            "needs MiB",
            "of",
            *(f"{which} tokens/s" for which in ("short", "whole")),
        )
    ]
    for name, choice in rows:
        table.append(
            (
                name,
                "yes" if choice.fits else f"-{mib(choice.missing)} MiB",
                *((choice.recipe.weights_text, choice.recipe.kv) if recipe else ()),
                str(choice.plan.context),
                mib(choice.plan.required.total),
                f"{mib(choice.plan.available)}{'' if choice.room.confirmed else '?'}",
                *((_speed(choice, i) for i in range(2)) if choice.fits else ("", "")),
            )
        )
    shift = 2 if recipe else 0
    print_table(table, right=(1, *(shift + i for i in range(2, 7))))


def _print_legend(choices: Sequence[Choice]) -> None:
    rooms = [choice.room for choice in choices]
    speeds = all(ceiling.confirmed for choice in choices for ceiling in choice.ceilings)
    if not (speeds and all(room.confirmed and room.board.reserve_mib.confirmed for room in rooms)):
        click.echo(_LEGEND)


def _short_report(choice: Choice) -> dict[str, Any]:
    plan = choice.plan
    return choice_report(choice) | {
        "fits": choice.fits,
        "available_bytes": plan.available,
        "required_bytes": {**asdict(plan.required), "total": plan.required.total},
        "context": plan.context,
        "max_context": plan.max_context,
    }


def _fitting(asked: Asked, model: PlannedSource) -> list[Choice]:
    """Boards on which the model would fit, those with the least memory first."""
    every, _ = asked.everywhere(model)
    return sorted((c for c in every if c.fits), key=lambda c: (c.plan.available, c.room.board.name))


def _fits_on(fitting: Sequence[Choice], model: PlannedSource, source: str) -> str:
    if not fitting:
        text = "it fits no board that Edgewise knows; take a smaller model"
    else:
        names = ", ".join(f"{c.room.board.name} ({c.recipe.weights_text})" for c in fitting[:_MOST_NAMED])
        more = f" and {len(fitting) - _MOST_NAMED} more" if len(fitting) > _MOST_NAMED else ""
        text = f"it would fit: {names}{more}; all: edge plan {shlex.quote(source)} --all-boards"
    if model.manifest is not None:
        text += "; or export it again with edge export SOURCE --board NAME"
    return text


def _same(choice: Choice, other: Choice) -> bool:
    return (choice.recipe.stored, choice.recipe.kv) == (other.recipe.stored, other.recipe.kv)


def _speed(choice: Choice, i: int) -> str:
    if len(choice.ceilings) <= i:
        return "unknown"
    ceiling = choice.ceilings[i]
    return f"{ceiling.tokens_per_s:.1f}{'' if ceiling.confirmed else '?'}"


def check_together(
    board: str | None, memory: int | str, engine: str | None, *, all_boards: bool, all_recipes: bool
) -> None:
    """Raises InvalidArgument where options contradict each other."""
    named = board is not None or all_boards
    if named and memory != "auto":
        raise InvalidArgument(
            f"--memory and --{'board' if board is not None else 'all-boards'} both say what memory there is; drop one"
        )
    if engine is not None and not named:
        raise InvalidArgument(f"--engine {engine} is of a board; add --board NAME or --all-boards")
    if all_boards and board is not None:
        raise InvalidArgument(f"--all-boards is every board, and --board {board} one; drop one of the two")
    if all_boards and all_recipes:
        raise InvalidArgument(
            "--all-boards shows the recipe that each would have, --all-recipes those of one board; drop one of the two"
        )
    if all_recipes and board is None:
        raise InvalidArgument(
            "--all-recipes is of one board; name it: --board NAME (edge boards), or --board this for this machine"
        )


__all__ = ["CONTEXT", "THIS", "Asked", "check_together", "plan_boards", "plan_one", "plan_recipes", "room"]
