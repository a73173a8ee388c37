from __future__ import annotations

import ml_dtypes
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from export.quantize.bfloat16 import bfloat16_bits, from_bfloat16_bits, round_bfloat16
from export.quantize.method import Rows


@given(hnp.arrays(np.float32, 9, elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_rounding_is_that_of_ml_dtypes(x: Rows) -> None:
    expected = x.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(round_bfloat16(x), expected.astype(np.float32))
    np.testing.assert_array_equal(bfloat16_bits(round_bfloat16(x)), expected.view(np.uint16))


@given(hnp.arrays(np.uint16, 9))
def test_bits_come_back(bits: np.ndarray) -> None:
    np.testing.assert_array_equal(bfloat16_bits(from_bfloat16_bits(bits)), bits)


def test_halfway_goes_to_even() -> None:
    np.testing.assert_array_equal(
        round_bfloat16(np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32)), [1, 1 + 2**-6]
    )
