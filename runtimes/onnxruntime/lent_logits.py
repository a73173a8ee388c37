"""Logits of one-token runs: memory that the engine writes to and lends to its callers without copying."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from runtimes.protocol import Logits


class LogitsLender:
    """Memory for logits float32 [1, vocab], as much as callers keep; `make` makes an OrtValue of an array."""

    def __init__(self, vocab: int, make: Callable[[Logits], Any]) -> None:
        self._vocab, self._make = vocab, make
        self._logits: list[_LentLogits] = []
        self._bound: _LentLogits | None = None

    def bind(self, binding: Any) -> _LentLogits:
        """Have the next run of `binding` write its logits where no caller sees them; what to lend them by."""
        free = next((logits for logits in self._logits if logits.free), None)
        if free is None:
            free = _LentLogits(self._vocab, self._make)
            # Two are enough for a caller that looks at one while the next is made; who keeps more has them for good.
            self._logits = [*self._logits[-1:], free]
        if free is not self._bound:
            binding.bind_ortvalue_output("logits", free.value)
            self._bound = free
        return free


class _LentLogits:
    """Memory that is used again when whom it was lent to let go."""

    def __init__(self, vocab: int, make: Callable[[Logits], Any]) -> None:
        # No array: views of a view name the array at the bottom, and would not keep the one between alive.
        self._memory = bytearray(4 * vocab)
        self._shape = 1, vocab
        self.value = make(self._array())
        self._lent: weakref.ref[Logits] | None = None

    @property
    def free(self) -> bool:
        """Whether nobody has what was lent, or a part of it."""
        return self._lent is None or self._lent() is None

    def lend(self) -> Logits:
        """An array of the memory."""
        array = self._array()
        self._lent = weakref.ref(array)
        return array

    def _array(self) -> Logits:
        return np.ndarray(self._shape, np.float32, self._memory)
