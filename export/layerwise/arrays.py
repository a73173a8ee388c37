"""Weights in memory as a source for a graph: those of one layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edge.errors import InvalidArgument
from export.quantize import Quantized
from export.quantize.method import Rows


class ArrayWeights:
    """A `WeightSource` of float weights, float32 arrays by Hugging Face tensor name."""

    def __init__(self, arrays: Mapping[str, Rows]) -> None:
        self._arrays = arrays

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource.shape`."""
        return self._arrays[name].shape

    def vector(self, name: str) -> Rows:
        """See `WeightSource.vector`."""
        return self._arrays[name]

    def floats(self, name: str) -> Iterator[Rows]:
        """See `WeightSource.floats`."""
        yield self._arrays[name]

    def quantized(self, name: str) -> Iterator[Quantized]:
        """Never called: the graph is one of float weights."""
        raise InvalidArgument(f"{name} is not quantized here; run it in full precision")
