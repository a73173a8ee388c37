"""Attention through the library: against double precision, and bit for bit in whatever chunks it is given."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtimes.kernels.functions import Array, Functions, Heads

PAGE = 64


@st.composite
def heads(draw: st.DrawFn) -> Heads:
    kv_heads, dim = draw(st.integers(1, 3)), draw(st.sampled_from([2, 8, 64, 80, 128]))
    return Heads(
        heads=kv_heads * draw(st.integers(1, 8)),
        kv_heads=kv_heads,
        dim=dim,
        scale=dim**-0.5,
        window=draw(st.sampled_from([0, 1, 17, 64, 100])),
    )


def expected(h: Heads, qkv: Array) -> Array:
    """float64 [tokens, heads · dim]."""
    tokens = len(qkv)
    x = qkv.astype(np.float64).reshape(tokens, -1, h.dim)
    q, k, v = np.split(x, [h.heads, h.heads + h.kv_heads], axis=1)
    k, v = (np.repeat(a, h.heads // h.kv_heads, axis=1) for a in (k, v))
    at = np.arange(tokens)
    seen = at <= at[:, None]
    if h.window:
        seen &= at > at[:, None] - h.window
    scores = np.where(seen, np.einsum("qhd,khd->hqk", q, k) * h.scale, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", weights, v).reshape(tokens, -1)


def read(
    functions: Functions, h: Heads, qkv: Array, cuts: list[int], threads: int
) -> tuple[Array, Array, Array]:
    """Outputs, keys and values of a sequence read in chunks, into a cache of NaN."""
    capacity = (len(qkv) // PAGE + 2) * PAGE
    keys = np.full((h.kv_heads, capacity // PAGE, h.dim, PAGE), np.nan, np.float32)
    values = np.full((h.kv_heads, capacity, h.dim), np.nan, np.float32)
    ends = sorted({*cuts, 0, len(qkv)})
    parts = [
        functions.attention(h, qkv[start:end].copy(), start, keys, values, capacity, threads)
        for start, end in pairwise(ends)
    ]
    return np.concatenate(parts), keys, values


@given(
    h=heads(),
    tokens=st.sampled_from([1, 2, 3, 63, 64, 65, 127, 128, 129, 150]),
    cuts=st.lists(st.integers(0, 150), max_size=5),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=30, deadline=None)
def test_attention(functions: Functions, h: Heads, tokens: int, cuts: list[int], seed: int) -> None:
    qkv = np.random.default_rng(seed).standard_normal(
        (tokens, (h.heads + 2 * h.kv_heads) * h.dim), np.float32
    )
    cuts = [cut for cut in cuts if cut < tokens]
    functions.use("plain")
    whole, _, _ = read(functions, h, qkv, [], 1)
    np.testing.assert_allclose(whole, expected(h, qkv), rtol=0, atol=1e-5)
    for isa in functions.isas:
        functions.use(isa)
        for threads in (1, 3):
            out, keys, values = read(functions, h, qkv, cuts, threads)
            assert np.array_equal(out, whole), (isa, threads)
    key, value = np.split(qkv[:, h.heads * h.dim :].reshape(tokens, -1, h.dim), 2, axis=1)
    assert np.array_equal(values[:, :tokens], value.swapaxes(0, 1))
    # Keys lie in pages [dim, 64].
    by_token = keys.swapaxes(2, 3).reshape(h.kv_heads, -1, h.dim)
    assert np.array_equal(by_token[:, :tokens], key.swapaxes(0, 1))
    assert np.isnan(by_token[:, tokens:]).all()
    assert np.isnan(values[:, tokens:]).all()
