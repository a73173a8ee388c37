"""Quantized weights as the floats that their codes stand for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from export.graph.weight_source import WeightSource, WrappedWeights
from export.quantize import Recipe
from export.quantize.method import Rows


class Dequantized(WrappedWeights):
    """A `WeightSource` of float weights over one of quantized weights."""

    def __init__(self, source: WeightSource, recipe: Recipe) -> None:
        super().__init__(source)
        self._recipe = recipe

    def floats(self, name: str) -> Iterator[Rows]:
        """See `WeightSource.floats`."""
        bits, inputs = self._recipe.of(name).bits, self._source.shape(name)[1]
        for part in self._source.quantized(name):
            yield np.ascontiguousarray(part.dequantize(bits)[:, :inputs])
