"""Attention through the library: against double precision, and bit for bit in whatever chunks and pages it is given."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.artifact.pages import KV_TYPES, head_page_bytes
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


def read(functions: Functions, h: Heads, kind: int, qkv: Array, cuts: list[int], threads: int) -> Array:
    """Outputs of a sequence read in chunks, its pages in no order among others."""
    blocks = len(qkv) // PAGE + 1
    table = np.random.default_rng(len(qkv)).permutation(blocks + 2)[:blocks].astype(np.int32)
    page = h.kv_heads * functions.page_bytes(kind, h.dim, h.dim)
    pool = np.full((blocks + 2, page), 255, np.uint8)
    ends = sorted({*cuts, 0, len(qkv)})
    parts = [
        functions.attention(h, kind, pool, table, start, qkv[start:end].copy(), threads)
        for start, end in pairwise(ends)
    ]
    assert (np.delete(pool, table, axis=0) == 255).all()
    return np.concatenate(parts)


# Of float16 the last bit; of codes half a step of queries, keys and values, which add up over the numbers of a head.
BOUNDS = {"float32": 1e-5, "float16": 1e-2, "int8": 0.1, "int4": 2.0}


@given(
    h=heads(),
    kind=st.sampled_from(KV_TYPES),
    tokens=st.sampled_from([1, 2, 3, 63, 64, 65, 127, 128, 129, 150]),
    cuts=st.lists(st.integers(0, 150), max_size=5),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_attention(
    functions: Functions, h: Heads, kind: str, tokens: int, cuts: list[int], seed: int
) -> None:
    qkv = np.random.default_rng(seed).standard_normal(
        (tokens, (h.heads + 2 * h.kv_heads) * h.dim), np.float32
    )
    cuts = [cut for cut in cuts if cut < tokens]
    number = KV_TYPES.index(kind)
    functions.use("plain")
    whole = read(functions, h, number, qkv, [], 1)
    np.testing.assert_allclose(whole, expected(h, qkv), rtol=0, atol=BOUNDS[kind])
    for isa in functions.isas:
        functions.use(isa)
        for threads in (1, 3):
            out = read(functions, h, number, qkv, cuts, threads)
            assert np.array_equal(out, whole), (isa, threads)


@pytest.mark.parametrize("kind", KV_TYPES)
@pytest.mark.parametrize(("dim", "value_dim"), [(2, 2), (64, 64), (80, 80), (128, 1), (576, 512), (30, 65)])
def test_bytes_of_a_page(functions: Functions, kind: str, dim: int, value_dim: int) -> None:
    assert functions.page_bytes(KV_TYPES.index(kind), dim, value_dim) == head_page_bytes(kind, dim, value_dim)
