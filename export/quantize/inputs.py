"""Inputs: what a linear layer was seen to take, as the second moments of its inputs."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

# Added to the diagonal, as a part of its mean: directions that calibration hardly saw are not free to take any error.
DAMPING = 0.01
_DEAD = 1e-10
_SMALL = 64


class Inputs:
    """The second moments H = E[x xᵀ] float32 [inputs, inputs] of a layer's inputs x.

    The squared error of outputs for weights that are off by D [rows, inputs] is tr(D H Dᵀ). An input that is always
    zero, and directions that no input took, are handled by damping.
    """

    def __init__(self, moments: Floats) -> None:
        self.moments = moments
        self._feedback: dict[int, Floats] = {}

    @classmethod
    def seen(cls, x: Floats) -> Inputs:
        """Of inputs float32 [tokens, inputs]."""
        return cls(x.T @ x / np.float32(max(1, len(x))))

    def padded(self, count: int) -> Inputs:
        """With `count` inputs more, which are always zero."""
        return Inputs(np.pad(self.moments, (0, count))) if count else self

    def error(self, off: Floats) -> float:
        """Squared error of outputs, for weights that are `off` by so much [rows, inputs]; in all rows."""
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.vdot(off @ self.moments, off))

    def order(self, block: int) -> NDArray[np.intp]:
        """Inputs, the strongest first, but blocks of the layout each in one piece."""
        strength = np.diag(self.moments).reshape(-1, block)
        within = np.argsort(-strength, axis=1, kind="stable")
        blocks = np.argsort(-strength.mean(axis=1), kind="stable")
        return (blocks[:, None] * block + within[blocks]).ravel()

    @cached_property
    def damped(self) -> Doubles:
        """The moments with DAMPING, positive definite."""
        moments = self.moments.astype(np.float64)
        diagonal = np.diag(moments)
        mean = float(diagonal.mean()) or 1.0
        more = np.where(diagonal > _DEAD * mean, DAMPING * mean, mean)
        moments[np.diag_indices_from(moments)] += more
        return moments

    def feedback(self, block: int) -> Floats:
        """The upper triangle U with Uᵀ U = H⁻¹, inputs in the order of `order(block)`; the last is kept."""
        if block not in self._feedback:
            order = self.order(block)
            # Cholesky from the last input to the first gives H = R Rᵀ with R upper, and U is its inverse.
            backwards = self.damped[np.ix_(order[::-1], order[::-1])]
            lower = np.linalg.cholesky(backwards)
            del backwards
            upper = np.ascontiguousarray(lower[::-1, ::-1])
            self._feedback.clear()
            self._feedback[block] = _inverse(upper).astype(np.float32)
        return self._feedback[block]


def _inverse(upper: Doubles) -> Doubles:
    """The inverse of an upper triangle, by halves."""
    n = len(upper)
    if n <= _SMALL:
        return np.triu(np.linalg.inv(upper))
    half = n // 2
    out = np.zeros_like(upper)
    out[:half, :half] = _inverse(upper[:half, :half])
    out[half:, half:] = _inverse(upper[half:, half:])
    out[:half, half:] = -(out[:half, :half] @ upper[:half, half:]) @ out[half:, half:]
    return out
