"""What becomes of a conversation where its context or the memory ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edge.artifact import KvGroup, ModelSpec
from edge.artifact.kv import immovable
from edge.cache.block import BLOCK_TOKENS
from edge.errors import EngineError, InvalidArgument

AtLimit = Literal["stop", "window", "error"]
"""An answer stops with `length`; goes on with the beginning and the recent tokens alone; or an error is raised."""

SINK_TOKENS = BLOCK_TOKENS
"""Of the beginning that stays: attention leans on its first few tokens, and a block is the least that can be kept."""
_LEAST_BLOCKS = 4


@dataclass(frozen=True)
class Window:
    """The beginning and the recent tokens of a sequence (StreamingLLM, Xiao et al. 2023, arXiv:2309.17453).

    Where `capacity` tokens are full, a quarter of them goes at once, the oldest behind the beginning: keys that stay
    are turned to their new positions, and few of such turns are less work, and round less, than many.
    """

    capacity: int
    """Tokens held at most, whole blocks."""

    @classmethod
    def of(cls, context: int, spec: ModelSpec, kv: Iterable[KvGroup]) -> Window:
        """The window of a context, for KV kept as `kv` says.

        Raises:
            InvalidArgument: the context is too short for one.
            EngineError: keys cannot be moved to other positions.
        """
        if context < _LEAST_BLOCKS * BLOCK_TOKENS:
            raise InvalidArgument(
                f"context is {context}; the policy window needs {_LEAST_BLOCKS * BLOCK_TOKENS} tokens or more"
            )
        if reason := immovable(spec, kv):
            raise EngineError(f"{reason}: its keys cannot be moved; choose at_limit stop or error")
        return cls(context // BLOCK_TOKENS * BLOCK_TOKENS)

    @property
    def step(self) -> int:
        """Tokens that go at once, and the most that are run at once."""
        return self.capacity // _LEAST_BLOCKS // BLOCK_TOKENS * BLOCK_TOKENS

    def dropped(self, held: int, more: int) -> int:
        """Tokens behind the beginning that go before `more`, at most a step, come to those held."""
        return min(self.step, self.droppable(held)) if held + more > self.capacity else 0

    def droppable(self, held: int) -> int:
        """Whole blocks that can go at all, in tokens."""
        return max(0, held - SINK_TOKENS) // BLOCK_TOKENS * BLOCK_TOKENS
