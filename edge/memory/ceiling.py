"""The ceiling of decode: tokens/s <= bandwidth ÷ bytes that a token reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from edge.artifact import KvGroup

SHORT = 512
"""Tokens of the shorter of the two conversations that a ceiling is given for."""


@dataclass(frozen=True)
class Ceiling:
    """Tokens per second that decoding cannot pass behind `context` tokens."""

    context: int
    tokens_per_s: float
    bytes_per_token: int
    confirmed: bool
    """Whether the bandwidth is."""

    def to_json(self) -> dict[str, Any]:
        """Context in tokens, bytes that each token reads."""
        return asdict(self)


def kv_read(groups: Iterable[KvGroup], held: int) -> int:
    """Bytes of KV that a token reads behind `held` tokens: of a window what it reaches."""
    return sum(g.bytes_per_token * (min(held, g.window) if g.window else held) for g in groups)


def tokens_per_s(bandwidth: float, weights: int, kv: int = 0) -> float:
    """What `bandwidth` bytes a second allow, where a token reads so many bytes of weights and KV."""
    return bandwidth / max(1, weights + kv)


def two_lengths(context: int) -> tuple[int, int]:
    """A short conversation and the whole context, in tokens."""
    return (SHORT if context > SHORT else max(1, context // 2)), context
