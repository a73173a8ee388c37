from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from export.quantize import Precision, Quantized, RoundToNearest
from export.quantize.method import Rows

CASES = [
    (bits, block, zero_points)
    for bits in (4, 5, 6, 8)
    for block in (32, 64, 128)
    for zero_points in (False, True)
]
TINY = float(np.finfo(np.float32).tiny)
# Half the distance of trial scales for 8 bits. A scale that is off by this part adds its square of Σwx² to the error.
HALF_STEP = 2.0**-9
# Half the distance of float16 values near zero: what a scale there may be off by.
HALF_LEAST = 2.0**-25


def quantized(rows: Rows, bits: int, block: int, zero_points: bool) -> Quantized:
    result = RoundToNearest().quantize(rows, Precision(bits, block, zero_points))
    blocks = rows.shape[1] // block
    assert (result.codes.dtype, result.codes.shape) == (np.uint8, (len(rows), blocks, block))
    assert (result.scales.dtype, result.scales.shape) == (np.float32, (len(rows), blocks))
    assert (result.zeros is not None) == zero_points
    assert result.codes.max() < 1 << bits
    assert np.isfinite(result.scales).all()
    assert np.array_equal(result.scales.astype(np.float16), result.scales), "not float16"
    if result.zeros is not None:
        assert (result.zeros.dtype, result.zeros.shape) == (np.uint8, (len(rows), blocks))
        assert result.zeros.max() < 1 << bits
    return result


def plain(rows: Rows, bits: int, block: int, zero_points: bool) -> np.ndarray:
    """Rounding with the scale that just reaches the extreme weights, in float64."""
    x = rows.astype(np.float64).reshape(-1, block)
    if zero_points:
        top = (1 << bits) - 1
        least, most = np.minimum(x.min(1), 0)[:, None], np.maximum(x.max(1), 0)[:, None]
        scale = np.where(most > least, (most - least) / top, 1)
        zero = np.rint(-least / scale)
        return ((np.clip(np.rint(x / scale) + zero, 0, top) - zero) * scale).reshape(rows.shape)
    top = (1 << (bits - 1)) - 1
    scale = np.abs(x).max(1, keepdims=True) / top
    scale = np.where(scale > 0, scale, 1)
    return (np.rint(x / scale) * scale).reshape(rows.shape)


def importance(rows: Rows, block: int) -> np.ndarray:
    """Weights of the squares [blocks, block]: |x| and the root mean square, relative to the block's largest."""
    x = np.abs(rows.astype(np.float64)).reshape(-1, block)
    largest = np.maximum(x.max(1, keepdims=True), 1e-300)
    return x / largest + np.sqrt(((x / largest) ** 2).mean(1, keepdims=True))


def weighted_error(rows: Rows, restored: np.ndarray, block: int) -> np.ndarray:
    error = (rows.astype(np.float64) - restored).reshape(-1, block)
    return (importance(rows, block) * error**2).sum(1)


def coarse(rows: Rows, bits: int, block: int) -> np.ndarray:
    """What float16 scales add to the weighted error of blocks of small weights."""
    return importance(rows, block).sum(1) * (HALF_LEAST * (1 << bits)) ** 2


def rows_of(kind: str, block: int) -> Rows:
    rng = np.random.default_rng(7)
    shape = (16, 4 * block)
    x = rng.standard_normal(shape).astype(np.float32)
    outlier = x.copy()
    outlier[:, ::block] *= 30
    return {
        "normal": x,
        "uniform": rng.uniform(-1, 1, shape).astype(np.float32),
        "heavy tails": (x**3).astype(np.float32),
        "an outlier a block": outlier,
        "all positive": np.abs(x) + np.float32(0.5),
        "all negative": -np.abs(x) - np.float32(0.5),
        "off centre": x + np.float32(2),
        "grid of 15": rng.integers(-7, 8, shape).astype(np.float32) * np.float32(0.125),
        "grid of 16": rng.integers(-8, 8, shape).astype(np.float32) * np.float32(0.125),
        "large": x * np.float32(1e4),
        "small": x * np.float32(1e-5),
    }[kind]


KINDS = (
    "normal",
    "uniform",
    "heavy tails",
    "an outlier a block",
    "all positive",
    "all negative",
    "off centre",
    "grid of 15",
    "grid of 16",
    "large",
    "small",
)


@pytest.mark.parametrize(("bits", "block", "zero_points"), CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_never_worse_than_plain_rounding(kind: str, bits: int, block: int, zero_points: bool) -> None:
    rows = rows_of(kind, block)
    ours = weighted_error(rows, quantized(rows, bits, block, zero_points).dequantize(bits), block)
    theirs = weighted_error(rows, plain(rows, bits, block, zero_points), block)
    power = weighted_error(rows, np.zeros_like(rows), block)
    # Trials are compared in float32, which tells errors apart down to 3e-7 of Σwx².
    assert (ours <= theirs + (HALF_STEP**2 + 3e-7) * power + coarse(rows, bits, block)).all()


@pytest.mark.parametrize(("bits", "part"), [(4, 0.75), (5, 0.85), (6, 0.9), (8, 0.95)])
def test_clearly_better_where_weights_are_normal(bits: int, part: float) -> None:
    rows = rows_of("normal", 32)
    ours = weighted_error(rows, quantized(rows, bits, 32, False).dequantize(bits), 32).sum()
    assert ours < part * weighted_error(rows, plain(rows, bits, 32, False), 32).sum()


@pytest.mark.parametrize(("bits", "most"), [(4, 1.01), (5, 1.02), (6, 1.03), (8, 1.2)])
def test_float16_scales_cost_little(bits: int, most: float) -> None:
    """Beside the best of many trials with float32 scales."""
    rows = rows_of("normal", 32)
    x, w = rows.astype(np.float64).reshape(-1, 32), importance(rows, 32)
    least = np.full(len(x), np.inf)
    for ratio in np.linspace(0.7, 1.1, 100):
        for end in (x.max(1), x.min(1)):
            scale = ratio * (end / -(1 << (bits - 1)))[:, None]
            q = np.clip(np.rint(x / scale), -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
            scale = (w * x * q).sum(1, keepdims=True) / (w * q * q).sum(1, keepdims=True)
            least = np.minimum(least, (w * (x - q * scale) ** 2).sum(1))
    ours = weighted_error(rows, quantized(rows, bits, 32, False).dequantize(bits), 32).sum()
    assert ours < most * least.sum()


@pytest.mark.parametrize("kind", ["grid of 15", "grid of 16"])
def test_weights_on_a_grid_come_back_exactly(kind: str) -> None:
    rows = rows_of(kind, 32)
    # Both ends of the grid in every block: no finer grid holds them all.
    rows[:, ::32], rows[:, 1::32] = rows.min(), rows.max()
    np.testing.assert_allclose(quantized(rows, 4, 32, False).dequantize(4), rows, rtol=1e-6)


blocks_of_32 = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.sampled_from([32, 64])),
    elements=st.floats(-65504, 65504, width=32)
    | st.floats(-1, 1, width=32)
    | st.sampled_from([0.0, TINY, -1e-45]),
)


@given(blocks_of_32, st.sampled_from([4, 5, 6, 8]), st.booleans())
@settings(max_examples=300)
def test_within_half_a_step_unless_clipped(rows: Rows, bits: int, zero_points: bool) -> None:
    result = quantized(rows, bits, 32, zero_points)
    error = np.abs(result.dequantize(bits).astype(np.float64) - rows).reshape(result.codes.shape)
    step = np.abs(result.scales.astype(np.float64))[..., None]
    inside = (result.codes > 0) & (result.codes < (1 << bits) - 1)
    x = np.abs(rows.astype(np.float64)).reshape(result.codes.shape)
    # Where a step is too small for a float16, the block is zero.
    lost = HALF_LEAST * (1 << bits)
    assert (error <= np.where(inside, step / 2, x) * (1 + 1e-5) + x * 1e-6 + lost).all()
    assert (error <= x + step / 2 + lost).all()


@given(blocks_of_32)
def test_no_scale_of_8_bits_is_negative(rows: Rows) -> None:
    assert (quantized(rows, 8, 32, False).scales >= 0).all()


@given(blocks_of_32)
def test_no_scale_is_negative_where_none_may_be(rows: Rows) -> None:
    found = RoundToNearest().quantize(rows, Precision(4, 32, positive=True))
    assert (found.scales >= 0).all()
    theirs = weighted_error(rows, plain(rows, 4, 32, False), 32)
    ours, power = weighted_error(rows, found.dequantize(4), 32), weighted_error(rows, np.zeros_like(rows), 32)
    assert (ours <= theirs + (HALF_STEP**2 + 3e-7) * power + coarse(rows, 4, 32)).all()


def test_signs_of_scales_are_worth_having() -> None:
    rows = rows_of("normal", 32)
    either, positive = (
        weighted_error(
            rows, RoundToNearest().quantize(rows, Precision(4, 32, positive=p)).dequantize(4), 32
        ).sum()
        for p in (False, True)
    )
    assert either < positive < 1.2 * either


@given(blocks_of_32, st.sampled_from([4, 5, 6, 8]), st.booleans())
def test_never_worse_than_plain_rounding_whatever_the_weights(
    rows: Rows, bits: int, zero_points: bool
) -> None:
    ours = weighted_error(rows, quantized(rows, bits, 32, zero_points).dequantize(bits), 32)
    theirs = weighted_error(rows, plain(rows, bits, 32, zero_points), 32)
    power = weighted_error(rows, np.zeros_like(rows), 32)
    assert (ours <= theirs + (HALF_STEP**2 + 3e-7) * power + coarse(rows, bits, 32)).all()


@pytest.mark.parametrize(("bits", "block", "zero_points"), CASES)
def test_a_zero_block_stays_zero(bits: int, block: int, zero_points: bool) -> None:
    rows = np.zeros((2, 2 * block), np.float32)
    rows[1, block:] = 1
    restored = quantized(rows, bits, block, zero_points).dequantize(bits)
    np.testing.assert_array_equal(restored == 0, rows == 0)


@pytest.mark.parametrize(("bits", "block", "zero_points"), CASES)
@pytest.mark.parametrize("value", [1.0, -1.0, 0.3, -0.02, 65504.0, -65504.0])
def test_a_constant_block_comes_back(value: float, bits: int, block: int, zero_points: bool) -> None:
    rows = np.full((1, block), value, np.float32)
    np.testing.assert_allclose(
        quantized(rows, bits, block, zero_points).dequantize(bits), rows, rtol=HALF_STEP
    )


@pytest.mark.parametrize(("bits", "block", "zero_points"), CASES)
def test_denormals_become_no_garbage(bits: int, block: int, zero_points: bool) -> None:
    rows = np.full((1, block), 1e-40, np.float32)
    rows[0, ::2] *= -1
    restored = quantized(rows, bits, block, zero_points).dequantize(bits)
    assert np.abs(restored).max() <= TINY * (1 << bits)


def test_rows_do_not_depend_on_what_they_came_with() -> None:
    rows = rows_of("normal", 32)
    whole = quantized(rows, 4, 32, False)
    for i in range(len(rows)):
        part = quantized(rows[i : i + 1], 4, 32, False)
        np.testing.assert_array_equal(part.codes[0], whole.codes[i])
        np.testing.assert_array_equal(part.scales[0], whole.scales[i])
