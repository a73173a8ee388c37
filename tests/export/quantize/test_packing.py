from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from export.quantize.packing import Bytes, pack, unpack


def unpacked(data: Bytes, bits: int, count: int) -> Bytes:
    """What the operators' documentation says: 4-bit codes in pairs, the first in the low nibble."""
    if bits == 8:
        return data
    return np.stack([data & 15, data >> 4], axis=-1).reshape(*data.shape[:-1], -1)[..., :count]


@given(st.sampled_from([4, 8]), hnp.array_shapes(min_dims=1, max_dims=3, max_side=9), st.data())
def test_packed_codes_come_back(bits: int, shape: tuple[int, ...], data: st.DataObject) -> None:
    codes = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, (1 << bits) - 1)))
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (*shape[:-1], -(-shape[-1] * bits // 8))
    np.testing.assert_array_equal(unpacked(packed, bits, shape[-1]), codes)
    np.testing.assert_array_equal(unpack(packed, bits, shape[-1]), codes)


def test_an_odd_code_is_filled_up_with_zero() -> None:
    np.testing.assert_array_equal(pack(np.array([[1, 2, 3]], np.uint8), 4), [[0x21, 0x03]])
