"""A site: where an engine would put an artifact, found out before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runtimes.budget import Budget


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a plan has to know of an engine here; sizes in bytes."""

    buckets: tuple[int, ...] = ()
    """Tokens that a cache can have room for; none where it has as many as are asked for."""
    more: str = ""
    """The command that makes room for more, its --context aside; empty where there is none."""
    weights: int = 0
    """What is loaded; 0 where that is the artifact's weights, and what the engine is known to make of them."""
    staged: int = 0
    """What calls are fed, give and take while they run, beside the weights."""
    pinned: int = 0
    """What they are fed and give, in the memory of the host; none where there is one memory."""
    card: int | None = None
    """What is free of a GPU's own memory, which holds weights and KV; None where the host's does."""


HOST = Site()
"""The memory of the host, as much as caches ask for."""


@dataclass(frozen=True)
class Card:
    """A GPU's own memory, as an engine sees it that keeps KV there."""

    free: Callable[[], int]
    """Bytes that nobody has, now."""
    copies: Budget
    """Of KV that was copied to the memory of the host."""
