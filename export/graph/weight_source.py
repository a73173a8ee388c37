"""Where the weights of a graph come from: by Hugging Face tensor name, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from export.quantize import Quantized
from export.quantize.method import Rows


class WeightSource(Protocol):
    """A checkpoint, or an artifact."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor in elements."""

    def vector(self, name: str) -> Rows:
        """A norm or a bias, float32."""

    def floats(self, name: str) -> Iterator[Rows]:
        """The rows of a matrix, float32, in order."""

    def quantized(self, name: str) -> Iterator[Quantized]:
        """The rows of a matrix in the blocks of the recipe, in order; the last block is filled up with zeros."""


class WrappedWeights:
    """A `WeightSource` that gives what `source` gives; what differs is for subclasses to say."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source

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
        return self._source.quantized(name)
