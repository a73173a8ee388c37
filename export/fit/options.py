"""What a matrix may be stored as, and how many bytes that takes."""

from __future__ import annotations

from export.cuda_variant import BITS as HALF_BITS
from export.cuda_variant import CUDA
from export.fit.matrices import Matrix
from export.graph.panels import Panels
from export.portable_variant import BITS as PORTABLE_BITS
from export.portable_variant import TENSORRT
from export.quantize import BITS, BLOCKS, Precision
from export.variant import CPU, ONNXRUNTIME

_OFFERED = {
    CPU: tuple(Precision(bits, block) for bits in BITS for block in reversed(BLOCKS)),
    ONNXRUNTIME: tuple(Precision(bits, block) for bits in (4, 8) for block in reversed(BLOCKS)),
    TENSORRT: tuple(
        Precision(bits, block, positive=True) for bits in PORTABLE_BITS for block in reversed(BLOCKS)
    ),
    CUDA: tuple(Precision(bits, block) for bits in HALF_BITS for block in reversed(BLOCKS)),
}


def options(engine: str) -> tuple[Precision, ...]:
    """Precisions that `engine` runs, from few bits to many."""
    return _OFFERED[engine]


def stored_bytes(matrix: Matrix, precision: Precision, engine: str) -> int:
    """Bytes that a matrix takes in the weights file."""
    blocks = -(-matrix.inputs // precision.block)
    if engine == CPU:
        layout = Panels.of(precision, matrix.inputs)
        halves = 2 if matrix.gated else 1
        return halves * layout.count(matrix.rows // halves) * layout.nbytes
    codes = matrix.rows * blocks * precision.block * precision.bits // 8
    zeros = matrix.rows * -(-blocks * precision.bits // 8) if precision.zero_points else 0
    scale = 2 if engine in (TENSORRT, CUDA) else 4
    return codes + scale * matrix.rows * blocks + zeros
