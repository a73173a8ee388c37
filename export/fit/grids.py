"""Grids: matrices whose source is codes already, and how an artifact holds just these."""

from __future__ import annotations

from collections.abc import Mapping

from edge.artifact import ModelSpec
from edge.errors import InvalidArgument
from export.checkpoint import Checkpoint, LazyTensor
from export.fit.matrices import matrices
from export.fit.options import options
from export.portable_variant import TENSORRT
from export.quantize import Precision


def source_grids(spec: ModelSpec, tensors: Mapping[str, LazyTensor], engine: str) -> dict[str, Precision]:
    """By the names of `matrices`: the fewest bits in which `engine` has what the checkpoint has, to the last bit.

    Matrices that are stored together come in the most bits of any of them.
    """
    found = {}
    for matrix in matrices(spec):
        grids = [tensors[f"{name}.weight"].grid for name in matrix.tensors]
        held = [grid for grid in grids if grid is not None]
        if len(held) < len(grids):
            continue
        zero_points = any(grid.zero_points for grid in held)
        if zero_points and engine == TENSORRT:
            continue
        for bits in sorted({option.bits for option in options(engine)}):
            precision = Precision(bits, held[0].block, zero_points, positive=engine == TENSORRT)
            if all(precision.holds(grid) for grid in held):
                found[matrix.name] = precision
                break
    return found


def kept_tensors(spec: ModelSpec, grids: Mapping[str, Precision]) -> dict[str, Precision]:
    """The precisions of tensors, by name without `.weight`, that hold `grids`."""
    return {name: grids[m.name] for m in matrices(spec) if m.name in grids for name in m.tensors}


def require_some(checkpoint: Checkpoint, grids: Mapping[str, Precision], engine: str) -> None:
    """Raises InvalidArgument where the checkpoint has nothing to keep."""
    if grids:
        return
    kinds = sorted({tensor.dtype for tensor in checkpoint.tensors.values() if len(tensor.shape) > 1})
    raise InvalidArgument(
        f"{checkpoint.source} has no matrix that engine {engine} could hold as it is; its matrices are "
        f"{', '.join(kinds)}, and kept are Q4_0, Q5_0 and Q8_0, GPTQ, AWQ and compressed-tensors; "
        "leave out --keep"
    )
