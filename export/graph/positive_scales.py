"""8-bit codes with scales above 0, which is what TensorRT takes. Ours have such but for blocks of zeros, which get the
scale 1.

Of others the sign of a negative scale goes over to its codes. The largest code, less the middle, is 127 and the least
-128: that becomes 127, one step of its scale less, and every other weight stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from export.graph.weight_source import WeightSource, WrappedWeights
from export.quantize import Quantized, Recipe

_BITS, _MIDDLE, _LAST = 8, 128, 255


class PositiveScales(WrappedWeights):
    """A `WeightSource`: `source`, with the scales of its 8-bit matrices above 0."""

    def __init__(self, source: WeightSource, recipe: Recipe) -> None:
        super().__init__(source)
        self._recipe = recipe

    def quantized(self, name: str) -> Iterator[Quantized]:
        """See `WeightSource.quantized`."""
        parts = self._source.quantized(name)
        return map(_positive, parts) if self._recipe.of(name).bits == _BITS else parts


def _positive(part: Quantized) -> Quantized:
    assert part.zeros is None
    scales = part.scales[..., None]
    turned = np.minimum(2 * _MIDDLE - part.codes.astype(np.int16), _LAST)
    codes = np.where(scales < 0, turned, np.where(scales == 0, _MIDDLE, part.codes)).astype(np.uint8)
    return Quantized(codes, np.where(part.scales == 0, np.float32(1), np.abs(part.scales)), None)
