"""Bytes of a model's weights before there is an artifact: from its sizes and how they are to be stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edge.artifact import ModelSpec
from edge.artifact.kv import GPU_ENGINES

WEIGHTS = ("int4", "int8", "fp16", "fp32")
"""Smallest first."""
MIXED = "mixed"
"""Each matrix with bits and block of its own."""
_FLOAT_BYTES = {"fp16": 2, "fp32": 4}
ENGINE_WEIGHTS = {
    "cpu": ("int4", "int8"),
    "onnxruntime": WEIGHTS,
    "tensorrt": ("int4", "int8", "fp16"),
    "cuda": ("int4", "int8", "fp16"),
}
"""What each engine takes."""
# The CPU kernels' layout: 16 rows a panel, panels on cache lines, float16 scales.
_PANEL, _LINE, _SCALE = 16, 64, 2
# Stock operators have float32 scales on CPUs.
_STOCK_SCALE = 4


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How weights are stored: all of a type, or where `weights` is MIXED with `bits` each on the average."""

    weights: str
    block: int = 32
    zero_points: bool = False
    bits: float | None = None
    engine: str = "cpu"
    """Whose layout: panels with float16 scales on the cpu engine, else those of stock operators."""

    def total(self, spec: ModelSpec) -> int:
        """Bytes of all weights; biases and norms in float32."""
        every = list(matrices(spec))
        vectors = spec.parameters - sum(rows * inputs for rows, inputs in every)
        return 4 * vectors + sum(self.matrix(rows, inputs) for rows, inputs in every)

    def read(self, spec: ModelSpec) -> int:
        """Bytes that one decoded token reads: of an embedding that is not also the head a row, which is left out."""
        return self.total(spec) - (0 if spec.tied else self.matrix(spec.vocab_size, spec.hidden_size))

    def matrix(self, rows: int, inputs: int) -> int:
        """Bytes of a matrix."""
        if self.weights == MIXED:
            assert self.bits is not None
            return int(rows * inputs * self.bits / 8)
        if self.weights in _FLOAT_BYTES:
            return rows * inputs * _FLOAT_BYTES[self.weights]
        blocks, bits = -(-inputs // self.block), int(self.weights.removeprefix("int"))
        if self.engine != "cpu":
            zeros = rows * -(-blocks * bits // 8) if self.zero_points else 0
            scale = _SCALE if self.engine in GPU_ENGINES else _STOCK_SCALE
            return rows * blocks * (self.block * bits // 8 + scale) + zeros
        zeros = _PANEL * blocks * bits // 8 if self.zero_points else 0
        panel = _PANEL * blocks * (self.block * bits // 8 + _SCALE) + zeros
        return -(-rows // _PANEL) * (-(-panel // _LINE) * _LINE)


def weight_bytes(spec: ModelSpec, weights: str, block: int = 32) -> int:
    """Bytes of all weights as the `cpu` engine keeps int4 and int8 ones, or as floats; biases and norms in float32."""
    return Stored(weights=weights, block=block).total(spec)


def engine_for(weights: str | None, engine: str = "cpu") -> str:
    """What an export takes for such weights unless it is told otherwise: for floats on CPUs stock operators."""
    return "onnxruntime" if weights in _FLOAT_BYTES and engine == "cpu" else engine


def matrices(spec: ModelSpec) -> Iterator[tuple[int, int]]:
    """(rows, inputs) of every matrix; a tied LM head is the embedding."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    for _ in range(spec.layers):
        yield from ((q + 2 * kv, hidden), (hidden, q), (inner, hidden), (inner, hidden), (hidden, inner))
    yield from [(spec.vocab_size, hidden)] * (1 if spec.tied else 2)
