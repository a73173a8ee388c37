"""Scales above 0, with the weights that they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from export.graph.positive_scales import PositiveScales
from export.quantize import Quantized, Recipe
from export.quantize.method import Rows

SCALES = arrays.arrays(
    np.float32, (3, 2), elements=st.sampled_from([-0.5, -0.0009765625, -0.0, 0.0, 0.25, 7.0, 1e-9, -1e-9])
)


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


@given(st.sampled_from([4, 8]), SCALES, st.data())
def test_weights_stay_what_they_are_but_for_the_least_code(bits: int, scales: np.ndarray, data: Any) -> None:
    codes = data.draw(arrays.arrays(np.uint8, (3, 2, 32), elements=st.integers(0, (1 << bits) - 1)))
    before = Quantized(codes, scales, None)
    (after,) = PositiveScales(One(before), Recipe(weights=f"int{bits}")).quantized("w.weight")
    assert (after.scales.astype(np.float16) > 0).all()
    assert after.codes.dtype == np.uint8
    assert after.codes.max() < 1 << bits
    # What a float16 scale cannot hold is 0, as it would be in the file.
    stored = scales.astype(np.float16).astype(np.float32)
    changed = ((stored < 0)[..., None] & (codes == 0)).reshape(3, -1)
    ours, theirs = after.dequantize(bits), Quantized(codes, stored, None).dequantize(bits)
    np.testing.assert_array_equal(ours[~changed], theirs[~changed])
    steps = np.repeat(np.abs(stored), 32, axis=1)
    np.testing.assert_array_equal(ours[changed], theirs[changed] - steps[changed])
