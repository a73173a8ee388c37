"""A block: some tokens of a sequence, known by all tokens that come before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from edge.artifact.pages import PAGE_TOKENS

BLOCK_TOKENS = PAGE_TOKENS
"""So that an engine with pages shares them as they are."""


@dataclass(frozen=True)
class Block:
    """`tokens` behind the block `parent`. The key stands for the whole chain up to here."""

    key: str
    """32 hexadecimal digits."""
    parent: str
    """The key before it; for the first block the fingerprint of what made the KV."""
    start: int
    """Position of the first token."""
    tokens: tuple[int, ...]

    @property
    def stop(self) -> int:
        """Position behind the last token."""
        return self.start + len(self.tokens)


def blocks(fingerprint: str, tokens: Sequence[int]) -> Iterator[Block]:
    """The whole blocks of a sequence, each hashed when it is asked for."""
    parent = fingerprint
    for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        mine = tuple(tokens[start : start + BLOCK_TOKENS])
        key = sha256(parent.encode() + np.array(mine, "<i4").tobytes()).hexdigest()[:32]
        yield Block(key, parent, start, mine)
        parent = key
