"""`edge export --board`: what an export is told by the board that it is for, and what is written down of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.cli.plan_board import Asked, board_report, room
from edge.cli.planned_source import PlannedSource, read_planned
from edge.errors import InvalidArgument, MemoryBudgetError
from edge.memory.choice import Choice
from edge.memory.recipe import Wishes
from edge.memory.size import parse_size
from edge.memory.weights import MIXED
from edge.version import VERSION

_MIB = 1 << 20


@dataclass(frozen=True)
class BoardExport:
    """A choice, as options for the exporter and as a record for the manifest."""

    choice: Choice
    options: dict[str, Any]
    record: dict[str, Any]


def board_export(
    source: str, board: str, context: int | None, sessions: int, given: Mapping[str, Any]
) -> BoardExport:
    """Choose for `board`; what is `given` on the command line outranks, and is checked.

    Raises:
        InvalidArgument: options that do not go together, or a context that the model does not have.
        MemoryBudgetError: it does not fit; nothing was read but the model's config.
        BoardError, CheckpointError, MissingExtra
    """
    there = room(board)
    model = read_planned(source)
    if model.manifest is not None:
        raise InvalidArgument(
            f"{source} is an artifact already; name the checkpoint it was made from, or plan it with: edge plan "
            f"{source} --board {board}"
        )
    asked = Asked(
        source=source, context=context, sessions=sessions, prefix_cache=0, wishes=_wishes(given, model)
    )
    choice = asked.choose(model, there)
    if not choice.fits:
        raise MemoryBudgetError(_refusal(asked, model, choice))
    return BoardExport(choice, _options(choice, given), _record(choice))


def _wishes(given: Mapping[str, Any], model: PlannedSource) -> Wishes:
    size = given.get("size")
    if size is not None and given.get("bits") is not None:
        raise InvalidArgument("bits and size are both given; drop one of the two")
    return Wishes(
        weights=given.get("weights"),
        block=given.get("block"),
        zero_points=bool(given.get("zero_points")),
        bits=given.get("bits"),
        # A size counts the tokenizer and the graph too, so this is a little more than the weights will be.
        nbytes=None if size is None else parse_size(size),
        engine=given.get("engine"),
        kv=given.get("kv"),
        typed=bool(given.get("typed")),
    )


def _options(choice: Choice, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the exporter is called with."""
    stored = choice.recipe.stored
    options: dict[str, Any] = {"engine": choice.recipe.engine}
    if given.get("size") is not None:
        options["size"] = given["size"]
    elif stored.weights == MIXED:
        options["bits"] = stored.bits
    else:
        options |= {"weights": stored.weights, "block": stored.block, "zero_points": stored.zero_points}
    # On the cpu engine a load says what KV is kept as: there the record is what it goes by.
    if choice.recipe.engine != "cpu":
        options["kv"] = choice.recipe.kv
    return options


def _record(choice: Choice) -> dict[str, Any]:
    """What the manifest's provenance says of the plan; sizes in bytes, context in tokens."""
    report = board_report(choice.room)
    kept = ("name", "title", "memory_bytes", "reserve_bytes")
    recipe = choice.recipe_json()
    return {
        **{key: report[key] for key in kept},
        "edgewise": VERSION,
        "required_bytes": choice.plan.required.total,
        **{key: recipe[key] for key in ("kv", "context", "sessions", "targets", "reasons")},
        "sm": choice.room.board.sm.value if choice.room.board.sm else None,
        "decode_tokens_per_s_ceiling": [c.to_json() for c in choice.ceilings],
    }


def _refusal(asked: Asked, model: PlannedSource, choice: Choice) -> str:
    board, plan = choice.room.board, choice.plan
    settled = {
        "--context": asked.context,
        "--weights": asked.wishes.weights,
        "--bits": asked.wishes.bits,
        "--size": asked.wishes.nbytes,
        "--kv": asked.wishes.kv,
    }
    named = [name for name, value in settled.items() if value is not None]
    wishes = Wishes(engine=asked.wishes.engine)
    free = Asked(source=asked.source, context=None, sessions=1, prefix_cache=0, wishes=wishes)
    would = free.choose(model, choice.room) if named or asked.sessions > 1 else choice
    if would.fits:
        least = "one conversation" if asked.sessions > 1 else "it"
        advice = (
            f"without {' and '.join(named) or '--sessions'} {least} would have {would.recipe.text} "
            f"and {would.plan.context} tokens"
        )
    else:
        advice = f"see which boards it fits: edge plan {asked.source} --all-boards"
    return (
        f"{model.name} does not fit {board.name}: with {choice.recipe.text} and {plan.context} tokens it needs "
        f"{plan.required.total / _MIB:.1f} MiB with the reserve, and there are {plan.available / _MIB:.1f}, so "
        f"{choice.missing / _MIB:.1f} are missing; {advice}"
    )
