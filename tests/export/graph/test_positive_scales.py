"""8-bit scales above 0, with the weights that they stand for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from export.graph.positive_scales import PositiveScales
from export.quantize import Quantized, Recipe
from export.quantize.method import Rows

CODES = arrays.arrays(np.uint8, (3, 2, 32))
SCALES = arrays.arrays(np.float32, (3, 2), elements=st.sampled_from([-0.5, -0.001, -0.0, 0.0, 0.25, 7.0]))


class One:
    """A source of one matrix."""

    def __init__(self, matrix: Quantized) -> None:
        self._matrix = matrix

    def shape(self, name: str) -> tuple[int, ...]:
        return len(self._matrix.codes), 64

    def vector(self, name: str) -> Rows:
        return np.ones(64, np.float32)

    def floats(self, name: str) -> Iterator[Rows]:
        raise NotImplementedError

    def quantized(self, name: str) -> Iterator[Quantized]:
        yield self._matrix


@given(CODES, SCALES)
def test_weights_stay_what_they_are_but_for_the_least_code(codes: np.ndarray, scales: np.ndarray) -> None:
    before = Quantized(codes, scales, None)
    (after,) = PositiveScales(One(before), Recipe(weights="int8")).quantized("w.weight")
    assert (after.scales > 0).all()
    assert after.codes.dtype == np.uint8
    changed = ((scales < 0)[..., None] & (codes == 0)).reshape(3, -1)
    ours, theirs = after.dequantize(8), before.dequantize(8)
    np.testing.assert_array_equal(ours[~changed], theirs[~changed])
    steps = np.repeat(np.abs(scales), 32, axis=1)
    np.testing.assert_array_equal(ours[changed], theirs[changed] - steps[changed])


@given(arrays.arrays(np.uint8, (3, 2, 32), elements=st.integers(0, 15)), SCALES)
def test_codes_of_four_bits_may_have_any_scale(codes: np.ndarray, scales: np.ndarray) -> None:
    before = Quantized(codes, scales, None)
    (after,) = PositiveScales(One(before), Recipe()).quantized("w.weight")
    assert after is before
