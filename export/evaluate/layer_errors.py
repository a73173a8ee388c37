"""The error of each linear layer, for what goes into its decoder layer in the full-precision model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.artifact import ModelSpec
from export.architecture.expected import expected_tensors
from export.fit.source import layer_arrays
from export.graph.weight_source import WeightSource
from export.layerwise import ArrayWeights, Layer
from export.quantize.method import Rows


def exact_layer(
    spec: ModelSpec, layer: int, source: WeightSource, hidden: list[Rows], folder: Path
) -> list[Rows]:
    """The layer's output for groups of sequences float32 [n, tokens, hidden_size]."""
    if not hidden:
        return []
    arrays = layer_arrays(source, list(expected_tensors(spec)), layer)
    most = max(group.shape[1] for group in hidden)
    with Layer(spec, layer, ArrayWeights(arrays), most, folder) as run:
        return [np.stack([run.run(window)[0] for window in group]) for group in hidden]


def layer_errors(
    spec: ModelSpec, layer: int, exact: WeightSource, stored: WeightSource, hidden: Rows, folder: Path
) -> tuple[Rows, dict[str, float]]:
    """The layer's exact output for `hidden` [n, tokens, hidden_size], and errors by the names of matrices.

    An error is ‖y' − d·y‖ / ‖d·y‖ of outputs y, over all tokens of the first sequence. Each output has a factor d of
    its own, the one that fits best: an export may multiply an output by a number that it divides the next matrix by.
    """
    names = list(expected_tensors(spec))
    tokens = hidden.shape[1]
    with Layer(
        spec, layer, ArrayWeights(layer_arrays(exact, names, layer)), tokens, folder, taps="outputs"
    ) as run:
        found = [run.run(window) for window in hidden]
    with Layer(
        spec, layer, ArrayWeights(layer_arrays(stored, names, layer)), tokens, folder, taps="outputs"
    ) as run:
        _, wrong = run.run(hidden[0])
    errors = {name: _error(found[0][1][name], wrong[name]) for name in wrong}
    return np.stack([output for output, _ in found]), errors


def _error(exact: Rows, wrong: Rows) -> float:
    power = np.einsum("tn,tn->n", exact, exact)
    factor = np.einsum("tn,tn->n", exact, wrong) / np.maximum(power, 1e-30)
    # An output that is always zero has nothing to compare, and one that was turned round none of its own.
    scaled = exact * factor
    size = float(np.linalg.norm(scaled / np.where(factor == 0, 1, np.abs(factor))))
    off = (wrong - scaled) / np.where(factor == 0, 1, np.abs(factor))
    return float(np.linalg.norm(off)) / size if size else 0.0
