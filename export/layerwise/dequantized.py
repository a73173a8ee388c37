"""Quantized weights as the floats that their codes stand for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from export.graph.weight_source import WeightSource
from export.quantize import Quantized, Recipe
from export.quantize.method import Rows


class Dequantized:
    """A `WeightSource` of float weights over one of quantized weights."""

    def __init__(self, source: WeightSource, recipe: Recipe) -> None:
        self._source, self._recipe = source, recipe

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource.shape`."""
        return self._source.shape(name)

    def vector(self, name: str) -> Rows:
        """See `WeightSource.vector`."""
        return self._source.vector(name)

    def floats(self, name: str) -> Iterator[Rows]:
        """See `WeightSource.floats`."""
        bits, inputs = self._recipe.of(name).bits, self._source.shape(name)[1]
        for part in self._source.quantized(name):
            yield np.ascontiguousarray(part.dequantize(bits)[:, :inputs])

    def quantized(self, name: str) -> Iterator[Quantized]:
        """See `WeightSource.quantized`."""
        return self._source.quantized(name)
