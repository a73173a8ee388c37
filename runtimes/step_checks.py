"""What every engine checks of the steps it is given, before it looks at their caches."""

from __future__ import annotations

from collections.abc import Sequence

from edge.errors import InvalidArgument
from runtimes.protocol import Step


def check_steps(steps: Sequence[Step], vocab: int) -> None:
    """Raises InvalidArgument where a step makes no sense for a vocabulary of `vocab` tokens."""
    if len({id(step.cache) for step in steps}) != len(steps):
        raise InvalidArgument("two steps of one call name the same cache; run them in two calls")
    for step in steps:
        if not len(step.tokens):
            raise InvalidArgument("a step has no tokens; give at least one")
        for position in step.logits_at:
            if not 0 <= position < len(step.tokens):
                raise InvalidArgument(
                    f"logits at {position} are not among the step's {len(step.tokens)} tokens"
                )
        for token in step.tokens:
            if not 0 <= token < vocab:
                raise InvalidArgument(f"token {token} is not in the vocabulary of {vocab}")
