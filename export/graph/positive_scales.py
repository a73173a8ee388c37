"""Codes with scales above 0, which is what TensorRT takes. Ours for it have such but for blocks of zeros, which get the
scale 1; those of a converted artifact or of GGUF's Q4_0 may not.

The sign of a negative scale goes over to its codes. The largest code, less the middle, is 7 (with 8 bits 127) and the
least -8 (-128): that becomes the largest, one step of its scale less, and every other weight stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from export.graph.weight_source import WeightSource, WrappedWeights
from export.quantize import Quantized, Recipe


class PositiveScales(WrappedWeights):
    """A `WeightSource`: `source`, with the scales of its matrices above 0 as float16."""

    def __init__(self, source: WeightSource, recipe: Recipe) -> None:
        super().__init__(source)
        self._recipe = recipe

    def quantized(self, name: str) -> Iterator[Quantized]:
        """See `WeightSource.quantized`."""
        return map(partial(_positive, bits=self._recipe.of(name).bits), self._source.quantized(name))


def _positive(part: Quantized, bits: int) -> Quantized:
    assert part.zeros is None
    # As it will be stored: what is too small for a float16 is 0.
    scales = part.scales.astype(np.float16).astype(np.float32)
    middle, last = 1 << (bits - 1), (1 << bits) - 1
    turned = np.minimum(2 * middle - part.codes.astype(np.int16), last)
    signs = scales[..., None]
    codes = np.where(signs < 0, turned, np.where(signs == 0, middle, part.codes)).astype(np.uint8)
    return Quantized(codes, np.where(scales == 0, np.float32(1), np.abs(scales)), None)
