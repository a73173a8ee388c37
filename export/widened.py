"""Codes in more bits than they need, for an engine that has no operators for so few: the weights stay what they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from export.fit.options import options
from export.graph.weight_source import WeightSource, WrappedWeights
from export.quantize import Precision, Quantized, Recipe


def widened(recipe: Recipe, engine: str) -> Recipe:
    """The recipe with the fewest bits for each matrix that `engine` has operators for."""
    offered = sorted({option.bits for option in options(engine)})

    def wide(precision: Precision) -> Precision:
        return replace(precision, bits=next(bits for bits in offered if bits >= precision.bits))

    return replace(recipe, tensors={name: wide(precision) for name, precision in recipe.tensors.items()})


class WidenedWeights(WrappedWeights):
    """A `WeightSource`: `source`, whose codes are those of `recipe`, in the bits of `wide`."""

    def __init__(self, source: WeightSource, recipe: Recipe, wide: Recipe) -> None:
        super().__init__(source)
        self._recipe, self._wide = recipe, wide

    def quantized(self, name: str) -> Iterator[Quantized]:
        """See `WeightSource.quantized`."""
        own, wide = self._recipe.of(name), self._wide.of(name)
        for part in self._source.quantized(name):
            yield part if own == wide else part.held(own, wide)
