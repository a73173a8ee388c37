"""Methods that know a layer's inputs: less error of outputs than rounding, whatever the inputs are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.quantize import BITS, Inputs, Precision, Quantized, RoundToNearest
from export.quantize.awq import input_factors
from export.quantize.descent import GptqDescent
from export.quantize.float16 import round_float16
from export.quantize.gptq import Gptq
from export.quantize.hqq import Hqq
from export.quantize.method import Rows

SEED = np.random.default_rng(7)
precisions = st.builds(Precision, st.sampled_from(BITS), st.sampled_from([32, 64]), st.booleans())


def alike(tokens: int, inputs: int, rank: int, seed: int = 0) -> Rows:
    """Inputs that go together, some of them far stronger than others, as those of a real layer are."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((tokens, rank)) @ random.standard_normal((rank, inputs))
    x = (mixed + 0.3 * random.standard_normal((tokens, inputs))) * np.exp(random.standard_normal(inputs))
    return np.asarray(x, np.float32)


def check(found: Quantized, precision: Precision, shape: tuple[int, int]) -> None:
    rows, inputs = shape
    assert found.codes.shape == (rows, inputs // precision.block, precision.block)
    assert int(found.codes.max()) < 1 << precision.bits
    assert np.isfinite(found.scales).all()
    assert np.array_equal(found.scales, round_float16(found.scales))
    assert (found.zeros is not None) == precision.zero_points


def error(
    method: Gptq | GptqDescent | RoundToNearest | Hqq, rows: Rows, precision: Precision, seen: Inputs
) -> float:
    found = method.quantize(rows, precision, seen)
    check(found, precision, (len(rows), rows.shape[1]))
    return seen.error(found.dequantize(precision.bits) - rows)


@settings(max_examples=30, deadline=None)
@given(precisions, st.integers(1, 40), st.integers(1, 3), st.integers(0, 99))
def test_less_error_than_rounding(precision: Precision, rows: int, blocks: int, seed: int) -> None:
    weights = np.random.default_rng(seed).standard_normal((rows, 64 * blocks), np.float32)
    seen = Inputs.seen(alike(300, 64 * blocks, 8, seed))
    rounded, fed_back = (error(method, weights, precision, seen) for method in (RoundToNearest(), Gptq()))
    assert fed_back < rounded / 2
    # What descends is the error with damping.
    damped = Inputs(seen.damped.astype(np.float32))
    before, after = (
        damped.error(method.quantize(weights, precision, seen).dequantize(precision.bits) - weights)
        for method in (Gptq(), GptqDescent())
    )
    assert after < 1.001 * before


def test_much_less_where_inputs_go_together() -> None:
    weights = SEED.standard_normal((64, 256), np.float32)
    seen, precision = Inputs.seen(alike(2000, 256, 16)), Precision(4, 32)
    rounded, fed_back, descended = (
        error(method, weights, precision, seen) for method in (RoundToNearest(), Gptq(), GptqDescent())
    )
    assert fed_back < rounded / 3
    assert descended < 0.97 * fed_back


def test_an_order_that_needs_no_lookup() -> None:
    """Blocks stay together: each is a run of the layout's own inputs."""
    order = Inputs.seen(alike(100, 128, 4)).order(32)
    assert sorted(order.tolist()) == list(range(128))
    for block in order.reshape(-1, 32) // 32:
        assert len(set(block.tolist())) == 1


def test_feedback_is_a_factor_of_the_inverse() -> None:
    seen = Inputs.seen(alike(500, 192, 30))
    upper = seen.feedback(64).astype(np.float64)
    order = seen.order(64)
    assert np.allclose(upper, np.triu(upper))
    product = upper.T @ upper @ seen.damped[np.ix_(order, order)]
    assert np.allclose(product, np.eye(192), atol=1e-2)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((50, 64), np.float32),
        np.ones((50, 64), np.float32),
        np.repeat(np.eye(1, 64, dtype=np.float32), 50, axis=0),
        np.zeros((0, 64), np.float32),
        np.full((50, 64), 1e-20, np.float32),
    ],
    ids=["never anything", "always the same", "one input alone", "no token", "hardly anything"],
)
@pytest.mark.parametrize("method", [Gptq(), GptqDescent()], ids=["gptq", "descent"])
def test_inputs_that_tell_little(method: Gptq | GptqDescent, x: Rows) -> None:
    """A singular matrix of moments is no reason to fail, nor to be far worse than rounding."""
    weights = SEED.standard_normal((16, 64), np.float32)
    precision = Precision(4, 32)
    found = method.quantize(weights, precision, Inputs.seen(x))
    check(found, precision, (16, 64))
    off = np.abs(found.dequantize(4) - weights)
    assert off.max() < 1.0


@pytest.mark.parametrize("weights", [0.0, 1e-30, 65504.0, -3.0])
def test_weights_that_are_all_the_same(weights: float) -> None:
    rows = np.full((3, 64), weights, np.float32)
    for method in (Gptq(), GptqDescent()):
        found = method.quantize(rows, Precision(4, 32), Inputs.seen(alike(100, 64, 4)))
        assert np.allclose(found.dequantize(4), rows, rtol=0.05, atol=1e-30)


def test_rows_do_not_depend_on_each_other() -> None:
    weights, precision = SEED.standard_normal((9, 64), np.float32), Precision(4, 32, zero_points=True)
    seen = Inputs.seen(alike(200, 64, 4))
    whole, part = (Gptq().quantize(rows, precision, seen) for rows in (weights, weights[4:6]))
    assert np.array_equal(whole.codes[4:6], part.codes)
    assert np.array_equal(whole.scales[4:6], part.scales)


def test_hqq_leaves_fewer_large_errors() -> None:
    """With zero points, heavy-tailed weights: less Σ|error|^0.7 than rounding, which minimises squares."""
    weights = np.asarray(np.random.default_rng(3).standard_t(3, (64, 256)), np.float32)
    precision = Precision(4, 64, zero_points=True)
    found, rounded = (method.quantize(weights, precision) for method in (Hqq(), RoundToNearest()))
    check(found, precision, (64, 256))
    most = np.abs(weights.reshape(64, -1, 64)).max(axis=2).repeat(64, axis=1)

    def norm(q: Quantized) -> float:
        return float((np.abs((q.dequantize(4) - weights) / most) ** 0.7).sum())

    assert norm(found) <= norm(rounded)


def test_awq_scales_up_what_is_strong() -> None:
    weights, x = SEED.standard_normal((64, 128), np.float32), SEED.standard_normal((500, 128), np.float32)
    x[:, 5] *= 100
    factors = input_factors([weights], Inputs.seen(x), Precision(4, 64))
    assert factors is not None
    assert factors.argmax() == 5
    assert input_factors([np.zeros((4, 128), np.float32)], Inputs.seen(x), Precision(4, 64)) is None


def test_awq_factors_of_values_that_several_queries_read() -> None:
    weights, x = SEED.standard_normal((32, 96), np.float32), SEED.standard_normal((300, 96), np.float32)
    x[:, 40] *= 50
    factors = input_factors([weights], Inputs.seen(x), Precision(4, 32), groups=2, repeats=3)
    assert factors is not None
    apart = factors.reshape(2, 3, 16)
    assert np.array_equal(apart, np.broadcast_to(apart[:, :1], apart.shape))
