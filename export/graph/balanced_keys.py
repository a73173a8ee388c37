"""Keys whose numbers are of like size, so that 8 bits hold them: what is large goes over to the queries.

Some checkpoints (Qwen2.5) have a few numbers in every key that are a hundred times the others, and a scale that fits
these leaves the others no bits. A key's number d may be divided by any factor that its query's number d is multiplied
by: scores stay as they are (SmoothQuant's idea, arXiv:2211.10438, between queries and keys). Here factors are powers of
two, the same for both halves of a rotated pair, and taken into the rows of q_proj and k_proj: codes stay, and scales
and biases change by their exponents alone, as far as float16 reaches for scales.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge.artifact import ModelSpec
from edge.artifact.pages import PAGE_TOKENS
from export.graph.weight_source import WeightSource, WrappedWeights
from export.quantize import Quantized, Recipe
from export.quantize.method import Rows

# How much of a key's size goes over: 1 would leave all of it to the queries, whose codes have one scale for 32 numbers
# too. Measured on Qwen2.5-0.5B, 0.6 to 0.8 are alike. A second time it changes nothing.
_SHARE = 0.7
# What a number of a query or key is at most, in standard deviations of its weighted inputs.
_DEVIATIONS = 3.0
_MOST_BITS = 12
# float16: bits of a fraction, and the exponents of its least and greatest bits.
_FRACTION, _LAST, _FIRST = 11, -24, 15

Exponents = NDArray[np.int64]


class BalancedKeys(WrappedWeights):
    """A `WeightSource` of quantized weights: `source`, with the factors taken in."""

    def __init__(self, source: WeightSource, spec: ModelSpec, recipe: Recipe) -> None:
        assert recipe.bits
        super().__init__(source)
        self._spec, self._recipe = spec, recipe
        # Vectors are small and stay; matrices that were read to work the factors out, until they are asked for.
        self._vectors: dict[str, Rows] = {}
        self._matrices: dict[str, list[Quantized]] = {}
        self._factors: dict[str, Rows] = {}

    def vector(self, name: str) -> Rows:
        """See `WeightSource.vector`."""
        factors = self._factors_of(name)
        values = self._vector(name)
        return values if factors is None else values * factors

    def quantized(self, name: str) -> Iterator[Quantized]:
        """See `WeightSource.quantized`."""
        factors = self._factors_of(name)
        if factors is None:
            yield from self._source.quantized(name)
            return
        start = 0
        for part in self._matrices.pop(name, None) or self._source.quantized(name):
            stop = start + len(part.codes)
            yield Quantized(part.codes, part.scales * factors[start:stop, None], part.zeros)
            start = stop

    def _factors_of(self, name: str) -> Rows | None:
        """What the rows of tensor `name` are multiplied by, where it makes queries or keys."""
        kind = "norm" if self._spec.qk_norm else "proj"
        prefix, _, rest = name.rpartition(".self_attn.")
        if not prefix or rest.split(".")[0] not in (f"q_{kind}", f"k_{kind}"):
            return None
        module = name.rpartition(".")[0]
        if module not in self._factors:
            find = self._of_norms if self._spec.qk_norm else self._of_projections
            find(f"{prefix}.self_attn", prefix)
        return self._factors[module]

    def _of_norms(self, attention: str, _: str) -> None:
        """Heads are normed, so their weights alone tell sizes; all heads share them."""
        q, k = (np.abs(self._vector(f"{attention}.{name}_norm.weight"))[None] for name in "qk")
        factors: Rows = np.exp2(_bits(q, k)[0]).astype(np.float32)
        self._factors |= {f"{attention}.q_norm": factors, f"{attention}.k_norm": np.float32(1) / factors}

    def _of_projections(self, attention: str, layer: str) -> None:
        spec = self._spec
        norm = self._vector(f"{layer}.input_layernorm.weight")
        q, k = (self._sizes(f"{attention}.{name}_proj", norm) for name in "qk")
        group = spec.heads // spec.kv_heads
        bits = _bits(q.reshape(spec.kv_heads, group, -1).max(1), k)
        factors = _held(bits, *(self._exponents(f"{attention}.{name}_proj") for name in "qk"))
        self._factors[f"{attention}.q_proj"] = np.repeat(factors, group, axis=0).ravel()
        self._factors[f"{attention}.k_proj"] = np.float32(1) / factors.ravel()

    def _sizes(self, module: str, norm: Rows) -> Rows:
        """How large outputs of `module` get for inputs of RMS 1 weighted with `norm`, float32 [heads, head_dim].

        Of the bias of keys only what turns away within half a page: the cache keeps the distance from the rest.
        """
        spec, bits = self._spec, self._recipe.of(module).bits
        parts = self._matrices[f"{module}.weight"] = list(self._source.quantized(f"{module}.weight"))
        deviations = np.concatenate(
            [np.linalg.norm(part.dequantize(bits)[:, : len(norm)] * norm, axis=1) for part in parts]
        )
        sizes = _DEVIATIONS * deviations.reshape(-1, spec.head_dim)
        if spec.qkv_bias:
            bias = np.abs(self._vector(f"{module}.bias")).reshape(sizes.shape)
            if module.endswith("k_proj"):
                pair = np.arange(spec.head_dim) % (spec.head_dim // 2)
                turn = spec.rope.theta ** (-2 * pair / spec.head_dim)
                bias = bias * np.minimum(1, PAGE_TOKENS / 2 * turn)
            sizes = sizes + bias
        return np.asarray(sizes, np.float32)

    def _exponents(self, module: str) -> tuple[Exponents, Exponents]:
        """By how many bits the scales of a pair of numbers, of every head that shares a key, can become smaller and
        larger and stay what float16 holds; int64 [kv_heads, head_dim] each.
        """
        spec = self._spec
        scales = np.concatenate([part.scales for part in self._matrices[f"{module}.weight"]])
        fraction, exponent = np.frexp(scales)
        whole = np.abs(np.ldexp(fraction, _FRACTION)).astype(np.int64)
        # The value of the last bit that is set, and of the first.
        last = np.where(whole, exponent - _FRACTION + np.frexp(whole & -whole)[1] - 1, 0).min(1)
        first = np.where(whole, exponent - 1, _LAST).max(1)
        pairs = (spec.kv_heads, -1, 2, spec.head_dim // 2)
        smaller, larger = last.reshape(pairs).min((1, 2)) - _LAST, _FIRST - first.reshape(pairs).max((1, 2))
        return _each_pair(smaller), _each_pair(larger)

    def _vector(self, name: str) -> Rows:
        if name not in self._vectors:
            self._vectors[name] = self._source.vector(name)
        return self._vectors[name]


def _bits(q: NDArray[np.float32], k: NDArray[np.float32]) -> NDArray[np.float64]:
    """Powers of two [kv_heads, head_dim], whole numbers, from the sizes of queries and keys."""
    sizes = np.log2(np.maximum(np.stack([q, k]), 1e-9).astype(np.float64))
    halves = sizes.reshape(2, len(q), 2, -1).max(2, keepdims=True)
    of_q, of_k = np.broadcast_to(halves, (2, len(q), 2, q.shape[1] // 2)).reshape(2, len(q), -1)
    bits = np.rint(_SHARE * of_k - (1 - _SHARE) * of_q)
    # Only what differs within a head matters.
    bits -= np.rint(np.median(bits, axis=1, keepdims=True))
    return np.clip(bits, -_MOST_BITS, _MOST_BITS)


def _held(bits: NDArray[np.float64], q: tuple[Exponents, Exponents], k: tuple[Exponents, Exponents]) -> Rows:
    """Factors float32 [kv_heads, head_dim] as near to 2^bits as the scales of queries and keys can follow; what all
    numbers of a head have in common is free."""
    least, most = -np.minimum(q[0], k[1]), np.minimum(q[1], k[0])
    shifts = np.array(sorted(range(-_MOST_BITS, _MOST_BITS + 1), key=abs))
    wanted = bits - shifts[:, None, None]
    possible = np.clip(wanted, least, most)
    best = np.abs(possible - wanted).sum(-1).argmin(0)
    factors: Rows = np.exp2(possible[best, np.arange(len(bits))]).astype(np.float32)
    return factors


def _each_pair(halves: Exponents) -> Exponents:
    """[kv_heads, head_dim / 2] for both numbers of a pair."""
    return np.concatenate([halves, halves], axis=1)
