"""The error of each linear layer, for what goes into its decoder layer in the full-precision model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.artifact import ModelSpec
from export.graph.weight_source import WeightSource
from export.layerwise import ArrayWeights, Layer, Taps, layer_arrays
from export.quantize.method import Rows


def layer_errors(
    spec: ModelSpec,
    layer: int,
    exact: WeightSource,
    stored: WeightSource,
    hidden: list[Rows],
    folder: Path,
) -> tuple[list[Rows], dict[str, float]]:
    """As `exact_layer` for groups of sequences, and errors by the names of matrices.

    An error is ‖y' − d·y‖ / ‖d·y‖ of outputs y, over all tokens of the very first sequence. Each output has a factor d
    of its own, the one that fits best: an export may multiply an output by a number that it divides the next matrix by.
    """
    first, most = hidden[0][0], max(group.shape[1] for group in hidden)

    def opened(source: WeightSource, tokens: int) -> Layer:
        weights = ArrayWeights(layer_arrays(spec, source, layer))
        return Layer(spec, layer, weights, tokens, folder, taps="outputs")

    right: Taps = {}
    outputs: list[Rows] = []
    with opened(exact, most) as run:
        for group in hidden:
            found = np.empty_like(group)
            for i, window in enumerate(group):
                found[i], taps = run.run(window)
                right = right or taps
            outputs.append(found)
    with opened(stored, len(first)) as run:
        _, wrong = run.run(first)
    return outputs, {name: _error(right[name], wrong[name]) for name in wrong}


def _error(exact: Rows, wrong: Rows) -> float:
    power = np.einsum("tn,tn->n", exact, exact)
    factor = np.einsum("tn,tn->n", exact, wrong) / np.maximum(power, 1e-30)
    # An output that is always zero has nothing to compare, and one that was turned round none of its own.
    scaled = exact * factor
    size = float(np.linalg.norm(scaled / np.where(factor == 0, 1, np.abs(factor))))
    off = (wrong - scaled) / np.where(factor == 0, 1, np.abs(factor))
    return float(np.linalg.norm(off)) / size if size else 0.0
