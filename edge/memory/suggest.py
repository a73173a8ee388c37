"""Which choice, or which few together, would make a plan fit."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from edge.memory.needs import Needs
from edge.memory.plan import LEAST_CONTEXT, Plan, make_plan
from edge.memory.weights import WEIGHTS, engine_for, weight_bytes

_MIB = 1 << 20
# Bytes of a weight below which it is a code, with its share of a scale.
_CODED = 1.5


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Changes to a plan, such as {"kv": "int4"}, and what it then needs, in bytes."""

    change: dict[str, str | int]
    required: int
    available: int

    @property
    def text(self) -> str:
        """As a person would say it."""
        what = " and ".join(f"{name} {value}" for name, value in self.change.items())
        return f"{what} ({self.required / _MIB:.0f} MiB)"

    def how(self, artifact: Path) -> str:
        """The command that makes of `artifact` one that fits; empty where it is that one already, loaded otherwise."""
        if "engine" not in self.change or "weights" in self.change:
            return ""
        engine, path = self.change["engine"], artifact
        out = path.with_name(f"{path.name.removesuffix('.edge')}-{engine}.edge")
        return f"edge convert {shlex.quote(str(path))} -o {shlex.quote(str(out))} --engine {engine}"

    def to_json(self) -> dict[str, Any]:
        """Sizes in bytes."""
        return {"change": self.change, "required_bytes": self.required, "available_bytes": self.available}


def suggestions(plan: Plan) -> list[Suggestion]:
    """What would fit, of each choice the least change: more together only where no fewer do."""
    for count in range(1, len(_CHOICES) + 1):
        found = [s for names in combinations(_CHOICES, count) for s in _together(plan, names)]
        if found:
            return found
    return []


def _together(plan: Plan, names: tuple[str, ...]) -> Iterator[Suggestion]:
    """The first variation of the choices `names`, all made, that fits."""
    variations: list[tuple[dict[str, str | int], Plan]] = [({}, plan)]
    for name in names:
        variations = [
            ({**change, name: value}, changed)
            for change, before in variations
            for value, changed in _CHOICES[name](before)
        ]
    for change, changed in variations:
        if changed.fits:
            if changed.needs.engine != plan.needs.engine:
                change = {**change, "engine": changed.needs.engine}
            yield Suggestion(change=change, required=changed.required.total, available=plan.available)
            return


def _kv(plan: Plan) -> Iterator[tuple[str | int, Plan]]:
    if plan.needs.engine != "cpu":
        return  # with stock operators KV is settled at export
    for kind in ("float16", "int8", "int4"):
        needs = plan.needs.with_kv(kind)
        if needs.kv_bytes_per_token < plan.needs.kv_bytes_per_token:
            yield needs.kv_name, _plan(plan, needs=needs)


def _engine(plan: Plan) -> Iterator[tuple[str | int, Plan]]:
    """The same codes for kernels that compute with them: the portable engine makes floats of them."""
    needs = plan.needs
    if needs.engine == "portable" and needs.stored < needs.spec.parameters * _CODED:
        yield "cpu", _plan(plan, needs=Needs.of(needs.spec, needs.stored, "int4", "cpu"))


def _weights(plan: Plan) -> Iterator[tuple[str | int, Plan]]:
    if plan.needs.buckets or plan.needs.card is not None:
        return  # engines are built of the weights that there are, and only they are on a card
    for weights in reversed(WEIGHTS):
        nbytes = weight_bytes(plan.needs.spec, weights)
        kv = plan.needs.kv_type if engine_for(weights) == plan.needs.engine else None
        # A few percent are what blocks and zero points make, not another type.
        if nbytes < 0.8 * plan.needs.stored:
            needs = Needs.of(plan.needs.spec, nbytes, weights, engine_for(weights), kv)
            yield weights, _plan(plan, needs=needs)


def _sessions(plan: Plan) -> Iterator[tuple[str | int, Plan]]:
    others = plan.required.total - plan.required.kv
    most = (plan.available - others) // max(1, plan.needs.kv(plan.context))
    if max(1, most) < plan.sessions:
        yield max(1, most), _plan(plan, sessions=max(1, most))


def _context(plan: Plan) -> Iterator[tuple[str | int, Plan]]:
    most = plan.max_context
    if min(LEAST_CONTEXT, plan.needs.longest) <= most < plan.context:
        yield most, _plan(plan, context=most)


def _plan(
    plan: Plan, needs: Needs | None = None, context: int | None = None, sessions: int | None = None
) -> Plan:
    """`plan` with other values."""
    return make_plan(
        needs or plan.needs,
        plan.available,
        context or plan.context,
        sessions or plan.sessions,
        plan.prefix_cache,
        plan.required.reserve,
        plan.host.available if plan.host is not None else None,
    )


# In the order in which they are made: weights decide about the engine, and so about KV; all others about the context.
_CHOICES: dict[str, Callable[[Plan], Iterator[tuple[str | int, Plan]]]] = {
    "engine": _engine,
    "weights": _weights,
    "kv": _kv,
    "sessions": _sessions,
    "context": _context,
}
