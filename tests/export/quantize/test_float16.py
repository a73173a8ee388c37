from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from export.quantize.float16 import LARGEST, float16_bits, from_float16_bits, round_float16
from export.quantize.method import Rows


@given(hnp.arrays(np.float32, 9, elements=st.floats(-LARGEST, LARGEST, width=32)))
def test_rounding_is_to_the_nearest(x: Rows) -> None:
    near = round_float16(x)
    for neighbour in (np.inf, -np.inf):
        with np.errstate(over="ignore"):
            other = np.nextafter(near.astype(np.float16), np.float16(neighbour)).astype(np.float64)
        assert (np.abs(near - x.astype(np.float64)) <= np.abs(other - x)).all()


@given(hnp.arrays(np.uint16, 9, elements=st.integers(0, 0x7BFF) | st.integers(0x8000, 0xFBFF)))
def test_bits_come_back(bits: np.ndarray) -> None:
    values = from_float16_bits(bits)
    np.testing.assert_array_equal(float16_bits(values), bits)
    np.testing.assert_array_equal(round_float16(values), values)


def test_what_is_too_large_becomes_the_largest() -> None:
    np.testing.assert_array_equal(round_float16(np.array([1e9, -1e30], np.float32)), [LARGEST, -LARGEST])
