"""8-bit activations: what both engines make of the inputs of a linear layer before they multiply."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.quantize.method import Rows

Numbers = NDArray[np.floating[Any]]
_LEVELS = np.float32(127)


def rounded_activations(x: Rows, block: int) -> Rows:
    """Inputs float32 [tokens, inputs] as codes from -127 to 127 stand for them, a scale for each `block` inputs."""
    tokens, inputs = x.shape
    blocks = np.pad(x, ((0, 0), (0, -inputs % block))).reshape(tokens, -1, block)
    scale = np.abs(blocks).max(-1, keepdims=True) / _LEVELS
    found = np.rint(blocks / np.where(scale > 0, scale, 1)) * scale
    return np.asarray(found.reshape(tokens, -1)[:, :inputs], np.float32)


def activation_error(x: Rows, rows: Rows, block: int) -> float:
    """‖(x' − x)·Wᵀ‖ / ‖x·Wᵀ‖ for inputs x [tokens, inputs] that are rounded to x', and weights W [rows, inputs]; see
    `relative`."""
    off: Rows = rounded_activations(x, block) - x
    return relative(off @ rows.T, x @ rows.T)


def relative(off: Numbers, exact: Numbers) -> float:
    """The root mean square over tokens of ‖off‖ / ‖exact‖ [tokens, outputs], but for tokens whose outputs are zero."""
    sizes = np.linalg.norm(exact.astype(np.float64), axis=1)
    ratios = np.linalg.norm(off.astype(np.float64), axis=1)[sizes > 0] / sizes[sizes > 0]
    return float(np.sqrt(np.square(ratios).mean())) if len(ratios) else 0.0
