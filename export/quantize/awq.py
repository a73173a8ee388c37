"""AWQ (Lin et al. 2023, arXiv:2306.00978): inputs that matter are scaled up, and down where they come from.

An input is multiplied by its strength to a power between 0 and 1, the one that leaves the least error of outputs. What
the input comes from, a norm or the rows of another matrix, is divided by the same factor: the graph stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from export.quantize.inputs import Inputs
from export.quantize.method import Rows
from export.quantize.precision import Precision
from export.quantize.rtn import nearest

_POWERS = tuple(i / 10 for i in range(1, 10))
# Enough to tell one power from another.
_SAMPLE = 512
_LEAST, _MOST = 1e-2, 1e2


def input_factors(
    matrices: Sequence[Rows], inputs: Inputs, precision: Precision, groups: int = 1, repeats: int = 1
) -> Rows | None:
    """Factors float32 [inputs] for the inputs of `matrices` float32 [rows, inputs]; None where none help.

    Where an input comes from a matrix that is read several times over (heads of queries that share their values), it is
    the same in all `repeats` of each of the `groups`.
    """
    strength = np.sqrt(np.maximum(np.diag(inputs.moments), 0))
    if groups * repeats > 1:
        apart = strength.reshape(groups, repeats, -1)
        strength = np.broadcast_to(np.sqrt(np.square(apart).mean(1, keepdims=True)), apart.shape).ravel()
    strength = strength / (strength.mean() or 1)
    samples = [matrix[:: max(1, len(matrix) // _SAMPLE)] for matrix in matrices]
    best, least = None, _error(samples, inputs, precision, None)
    for power in _POWERS:
        factors = np.clip(strength, _LEAST, _MOST).astype(np.float32) ** np.float32(power)
        factors /= np.sqrt(factors.max() * factors.min())
        error = _error(samples, inputs, precision, factors)
        if error < least:
            best, least = factors, error
    return best


def _error(samples: Sequence[Rows], inputs: Inputs, precision: Precision, factors: Rows | None) -> float:
    total = 0.0
    for rows in samples:
        found = nearest(rows, precision) if factors is None else nearest(rows * factors, precision) / factors
        total += inputs.error(found - rows)
    return total
