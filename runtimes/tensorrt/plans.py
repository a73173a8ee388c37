"""Plans: the engines of an artifact that can run here, one for each bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import EngineError
from runtimes.tensorrt.chunks import Profile


@dataclass(frozen=True)
class Plan:
    """An engine's file, of which TensorRT reads `nbytes` from `offset` on; profiles as TensorRT numbers them."""

    path: Path
    offset: int
    nbytes: int
    form: str
    kv: str
    capacity: int
    profiles: tuple[Profile, ...]

    @property
    def prefill(self) -> int:
        """The profile with the most tokens."""
        return max(range(len(self.profiles)), key=lambda i: self.profiles[i].tokens)

    @property
    def decode(self) -> int:
        """The profile with the fewest tokens, which is the one for a single one where there are two."""
        return min(range(len(self.profiles)), key=lambda i: self.profiles[i].tokens)


def consistent(plans: Sequence[Plan]) -> tuple[Plan, ...]:
    """Of plans that can run here those of the form that comes first, a capacity each, the smallest first.

    A sequence that outgrows a bucket goes on in the next: all have to keep KV alike.

    Raises:
        EngineError: there are none.
    """
    if not plans:
        raise EngineError("there is no engine to run; build one with: edge build ARTIFACT --target TARGET")
    first = plans[0]
    alike = [plan for plan in plans if (plan.form, plan.kv) == (first.form, first.kv)]
    by_capacity = {plan.capacity: plan for plan in reversed(alike)}
    return tuple(by_capacity[capacity] for capacity in sorted(by_capacity))


def common(plans: Sequence[Plan]) -> Profile:
    """What a prefill call of every plan takes."""
    widest = [plan.profiles[plan.prefill] for plan in plans]
    return Profile(min(p.tokens for p in widest), min(p.logits for p in widest))
