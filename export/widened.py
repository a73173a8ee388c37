"""Codes in more bits than they need, for an engine that has no operators for so few: the weights stay what they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from export.fit.options import options
from export.graph.weight_source import WeightSource
from export.quantize import Precision, Quantized, Recipe
from export.quantize.method import Rows


def widened(recipe: Recipe, engine: str) -> Recipe:
    """The recipe with the fewest bits for each matrix that `engine` has operators for."""
    offered = sorted({option.bits for option in options(engine)})

    def wide(precision: Precision) -> Precision:
        return replace(precision, bits=next(bits for bits in offered if bits >= precision.bits))

    return replace(recipe, tensors={name: wide(precision) for name, precision in recipe.tensors.items()})


class WidenedWeights:
    """A `WeightSource`: `source`, whose codes are those of `recipe`, in the bits of `wide`."""

    def __init__(self, source: WeightSource, recipe: Recipe, wide: Recipe) -> None:
        self._source, self._recipe, self._wide = source, recipe, wide

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource.shape`."""
        return self._source.shape(name)

    def vector(self, name: str) -> Rows:
        """See `WeightSource.vector`."""
        return self._source.vector(name)

    def floats(self, name: str) -> Iterator[Rows]:
        """See `WeightSource.floats`."""
        return self._source.floats(name)

    def quantized(self, name: str) -> Iterator[Quantized]:
        """See `WeightSource.quantized`."""
        own, wide = self._recipe.of(name), self._wide.of(name)
        for part in self._source.quantized(name):
            yield part if own == wide else part.held(own, wide)
