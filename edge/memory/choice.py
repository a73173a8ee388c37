"""The choice: which recipe a board gets, and why. A pure function of model, board and what the user has settled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from boards.board import Profile
from edge.artifact.kv import GPU_ENGINES
from edge.memory.ceiling import Ceiling, kv_read, tokens_per_s, two_lengths
from edge.memory.plan import LEAST_CONTEXT, Plan, make_plan
from edge.memory.recipe import Held, Recipe, Recipes
from edge.memory.room import Room
from edge.memory.weights import MIXED

CONTEXT = 8192
"""Tokens to leave room for where none were asked: a reasoning model thinks for thousands."""
ENOUGH = 30.0
"""Tokens per second from which on fidelity counts more than speed: engines reach three quarters of a ceiling, and
20 are more than one reads."""
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A recipe on a board, its plan and the ceiling of its speed."""

    room: Room
    recipe: Recipe
    plan: Plan
    ceilings: tuple[Ceiling, ...]
    """For a short conversation and for the whole context; none where nobody measured the bandwidth."""
    reasons: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether there is enough memory."""
        return self.plan.fits

    @property
    def missing(self) -> int:
        """Bytes; 0 where it fits."""
        return max(0, self.plan.required.total - self.plan.available)

    @property
    def speed(self) -> float | None:
        """Tokens per second that the whole context allows."""
        return self.ceilings[-1].tokens_per_s if self.ceilings else None

    def recipe_json(self) -> dict[str, Any]:
        """The recipe as JSON; `targets` are engines that it could be built for."""
        stored, board = self.recipe.stored, self.room.board
        mixed = stored.weights == MIXED
        return {
            "engine": self.recipe.engine,
            "dialect": self.recipe.engine,
            "weights": stored.weights,
            "bits": stored.bits,
            "block": None if mixed or stored.weights in ("fp16", "fp32") else stored.block,
            "zero_points": stored.zero_points,
            "kv": self.recipe.kv,
            "context": self.plan.context,
            "sessions": self.plan.sessions,
            "targets": targets(board),
            "reasons": list(self.reasons),
        }


def targets(board: Profile) -> list[dict[str, Any]]:
    """Engines that could be built for a board in particular; a plan builds none."""
    if board.sm is None or "tensorrt" not in board.engines.value:
        return []
    return [{"engine": "tensorrt", "sm": board.sm.value, "built": False}]


def choose(
    recipes: Recipes,
    room: Room,
    *,
    context: int | None = None,
    sessions: int = 1,
    prefix_cache: int | None = None,
    held: Held | None = None,
) -> Choice:
    """The closest recipe to the source that fits and is fast enough, else the fastest that fits.

    Without `context` room is left for CONTEXT tokens, and for less where that does not fit. Where nothing fits it is
    the recipe that needs the least, with a plan that does not fit.

    Raises:
        InvalidArgument: `context` or `sessions` out of range.
    """

    def measured(some: Sequence[Recipe], tokens: int) -> list[Choice]:
        return [measure(r, room, context=tokens, sessions=sessions, prefix_cache=prefix_cache) for r in some]

    contexts = [context] if context is not None else _contexts(recipes.good[0].needs.spec.context)
    for tokens in contexts:
        every = measured(recipes.good, tokens)
        if found := _best(every):
            return _because(found, _reasons(found, every, context, contexts, recipes, held))
    for tokens in contexts[-2:]:
        for candidate in measured(recipes.last, tokens):
            if candidate.fits:
                return _because(candidate, _reasons(candidate, [], context, contexts, recipes, held))
    least = min(measured(recipes.all, contexts[-1]), key=lambda choice: choice.plan.required.total)
    return _because(least, [f"it needs the least, {least.missing / _MIB:.1f} MiB more than there are"])


def measure(
    recipe: Recipe,
    room: Room,
    *,
    context: int | None,
    sessions: int = 1,
    prefix_cache: int | None = None,
) -> Choice:
    """A recipe on a board: its plan and its ceilings."""
    on_card = room.on_card and recipe.engine in GPU_ENGINES
    needs = replace(recipe.needs, card=room.whole) if on_card else recipe.needs
    plan = make_plan(needs, room.whole, context, sessions, prefix_cache, room.reserve)
    return Choice(room=room, recipe=recipe, plan=plan, ceilings=tuple(_ceilings(recipe, room, plan.context)))


def _ceilings(recipe: Recipe, room: Room, context: int) -> Iterator[Ceiling]:
    bandwidth, needs = room.bandwidth, recipe.needs
    for tokens in two_lengths(context) if bandwidth else ():
        assert bandwidth
        kv = kv_read(needs.groups, tokens)
        speed = tokens_per_s(bandwidth.value, needs.read, kv)
        yield Ceiling(tokens, speed, needs.read + kv, bandwidth.confirmed)


def _contexts(longest: int) -> list[int]:
    """Tokens to leave room for, the most first."""
    tokens, least = min(CONTEXT, longest), min(LEAST_CONTEXT, longest)
    found = [tokens]
    while tokens // 2 >= least:
        tokens //= 2
        found.append(tokens)
    return found


def _best(choices: Sequence[Choice]) -> Choice | None:
    """Of those that fit the first that is fast enough, else the fastest; None where none fits."""
    fitting = [choice for choice in choices if choice.fits]
    enough = (choice for choice in fitting if choice.speed is not None and choice.speed >= ENOUGH)
    return next(enough, None) or min(fitting, key=_token_bytes, default=None)


def _token_bytes(choice: Choice) -> int:
    needs = choice.recipe.needs
    return needs.read + kv_read(needs.groups, choice.plan.context)


def _because(choice: Choice, reasons: Iterable[str]) -> Choice:
    return replace(choice, reasons=(*reasons, *_engine_reasons(choice)))


def _reasons(
    found: Choice,
    every: Sequence[Choice],
    asked: int | None,
    contexts: Sequence[int],
    recipes: Recipes,
    held: Held | None,
) -> Iterator[str]:
    name = found.recipe.weights_text
    # Of the same KV: what else would be told of weights is told of KV.
    closer = [c for c in every[: every.index(found)] if c.recipe.kv == found.recipe.kv] if every else []
    slow = next((c for c in closer if c.fits), None)
    large = next((c for c in reversed(closer) if not c.fits), None)
    if recipes.settled:
        yield f"weights {name}: {recipes.settled}"
    elif held is not None and held.codes == 4 and found.recipe.stored.weights == "int4":
        yield "weights int4: the source's codes are taken over as they are, so more bits would add nothing"
    elif not every and found.recipe.stored.block > 32 and len(recipes.all) > 1:
        yield f"weights {name} in blocks of {found.recipe.stored.block}: in smaller ones they do not fit"
    elif slow is not None and slow.speed is not None and found.speed is not None:
        yield (
            f"weights {name}: {slow.recipe.weights_text} would fit too, but allows "
            f"{slow.speed:.1f} tokens/s at most, less than the {ENOUGH:.0f} from which on fidelity counts more; "
            f"{name} allows {found.speed:.1f}"
        )
    elif large is not None:
        yield f"weights {name}: {large.recipe.weights_text} needs {large.missing / _MIB:.1f} MiB more than there are"
    elif len({c.recipe.stored for c in every}) > 1:
        yield f"weights {name}: the closest to the source, and it fits" + (
            f" with {found.speed:.1f} tokens/s at most" if found.speed is not None else ""
        )
    if found.recipe.kv == "int4" and found.recipe not in recipes.good:
        yield (
            f"KV int4: nothing else leaves room for {found.plan.context} tokens; it costs much of a small model "
            "(mean KL 0.08 to 0.15), so ask for fewer tokens where you can"
        )
    if asked is None:
        if found.plan.context == contexts[0]:
            longest = found.recipe.needs.spec.context
            whole = (
                "all that the model takes" if contexts[0] == longest else "what is left room for by default"
            )
            yield f"context {found.plan.context} tokens: {whole}"
        else:
            yield f"context {found.plan.context} tokens: twice as many do not fit"


def _engine_reasons(choice: Choice) -> Iterator[str]:
    room, engine = choice.room, choice.recipe.engine
    if lack := room.lacks(engine):
        yield lack
    elif engine in GPU_ENGINES:
        yield f"engine {engine}: it computes on the {'card' if room.on_card else 'GPU'}, unverified on device"
        if room.on_card:
            runtime = choice.recipe.needs.runtime / _MIB
            yield f"in the computer's own memory, not counted: a runtime of {runtime:.1f} MiB, and the prefix cache"
    elif room.on_card:
        yield f"engine {engine}: it computes on the CPU, in the computer's own memory and not in the card's"
    elif engine == "cpu":
        yield "engine cpu: our operators, the fastest that Edgewise has today"
    for target in targets(room.board):
        yield f"TensorRT for SM {target['sm']} is noted as a target; edge build makes engines, unverified on device"
