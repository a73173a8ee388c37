"""Bytes of a model's weights before there is an artifact: from its sizes and how they are to be stored."""

from __future__ import annotations

from collections.abc import Iterator

from edge.artifact import ModelSpec

WEIGHTS = ("int4", "int8", "fp16", "fp32")
"""Smallest first."""
_FLOAT_BYTES = {"fp16": 2, "fp32": 4}
# The CPU kernels' layout: 16 rows a panel, panels on cache lines, float16 scales.
_PANEL, _LINE, _SCALE = 16, 64, 2


def weight_bytes(spec: ModelSpec, weights: str, block: int = 32) -> int:
    """Bytes of all weights as the `cpu` engine keeps int4 and int8 ones, or as floats; biases and norms in float32."""
    vectors = spec.parameters - sum(rows * inputs for rows, inputs in matrices(spec))
    return 4 * vectors + sum(_matrix(rows, inputs, weights, block) for rows, inputs in matrices(spec))


def engine_for(weights: str) -> str:
    """What an export takes for such weights unless it is told otherwise."""
    return "onnxruntime" if weights in _FLOAT_BYTES else "cpu"


def matrices(spec: ModelSpec) -> Iterator[tuple[int, int]]:
    """(rows, inputs) of every matrix; a tied LM head is the embedding."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    for _ in range(spec.layers):
        yield from ((q + 2 * kv, hidden), (hidden, q), (inner, hidden), (inner, hidden), (hidden, inner))
    yield from [(spec.vocab_size, hidden)] * (1 if spec.tied else 2)


def _matrix(rows: int, inputs: int, weights: str, block: int) -> int:
    if weights in _FLOAT_BYTES:
        return rows * inputs * _FLOAT_BYTES[weights]
    blocks = -(-inputs // block)
    panel = _PANEL * blocks * (block * int(weights.removeprefix("int")) // 8 + _SCALE)
    return -(-rows // _PANEL) * (-(-panel // _LINE) * _LINE)
