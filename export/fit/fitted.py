"""Weights as they were fitted, and the checkpoint's where nothing was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from export.fit.work import Work
from export.graph.weight_source import WeightSource, WrappedWeights
from export.quantize import Quantized
from export.quantize.method import Rows

# Codes of a few rows at a time.
_ELEMENTS = 1 << 22


class FittedWeights(WrappedWeights):
    """A `WeightSource` over `work`, and `source` for what is not in it."""

    def __init__(self, work: Work, source: WeightSource) -> None:
        super().__init__(source)
        self._work = work

    def vector(self, name: str) -> Rows:
        """See `WeightSource.vector`."""
        fitted = self._work.vector(name)
        return self._source.vector(name) if fitted is None else np.array(fitted)

    def quantized(self, name: str) -> Iterator[Quantized]:
        """See `WeightSource.quantized`."""
        found = self._work.codes(name)
        if found is None:
            yield from self._source.quantized(name)
            return
        rows, blocks, block = found.codes.shape
        step = max(1, _ELEMENTS // (blocks * block))
        for start in range(0, rows, step):
            part = found.rows(start, min(start + step, rows))
            zeros = None if part.zeros is None else np.array(part.zeros)
            yield Quantized(np.array(part.codes), np.array(part.scales), zeros)
