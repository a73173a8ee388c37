"""The error of each linear layer, for what goes into its decoder layer in the full-precision model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.artifact import ModelSpec
from export.graph.weight_source import WeightSource
from export.layerwise import ArrayWeights, Heard, Layer, layer_arrays
from export.quantize.activations import activation_error, relative
from export.quantize.method import Rows


@dataclass(frozen=True)
class LinearError:
    """How far the outputs of a linear layer are off, relative to them: by its weights, and by 8-bit activations."""

    weights: float
    activations: float | None
    """None where activations are floats."""


def layer_errors(
    spec: ModelSpec,
    layer: int,
    exact: WeightSource,
    stored: WeightSource,
    hidden: list[Rows],
    blocks: Mapping[str, int] | None,
    folder: Path,
) -> tuple[list[Rows], dict[str, LinearError]]:
    """As `exact_layer` for groups of sequences, and errors by the names of matrices.

    `blocks` are those of the matrices, which share a scale of 8-bit activations; None where activations are floats.

    An error is ‖y' − d·y‖ / ‖d·y‖ of outputs y, its root mean square over the tokens of the very first sequence: one
    token with large outputs does not speak for all. Each output has a factor d of its own, the one that fits best:
    an export may multiply an output by what it divides the next matrix by.
    """
    first, most = hidden[0][0], max(group.shape[1] for group in hidden)
    right: Heard | None = None
    outputs: list[Rows] = []
    with Layer(
        spec, layer, ArrayWeights(layer_arrays(spec, exact, layer)), most, folder, taps=["outputs"]
    ) as run:
        for group in hidden:
            found = np.empty_like(group)
            for i, window in enumerate(group):
                found[i], heard = run.run(window)
                right = right or heard
            outputs.append(found)
    arrays = layer_arrays(spec, stored, layer)
    with Layer(spec, layer, ArrayWeights(arrays), len(first), folder, taps=["inputs", "outputs"]) as run:
        _, wrong = run.run(first)
    assert right is not None

    def error(name: str) -> LinearError:
        rows = np.concatenate([arrays[f"{tensor}.weight"] for tensor in name.split("+")])
        return LinearError(
            _error(right.outputs[name], wrong.outputs[name]),
            None if blocks is None else activation_error(wrong.inputs[name], rows, blocks[name]),
        )

    return outputs, {name: error(name) for name in wrong.inputs}


def _error(exact: Rows, wrong: Rows) -> float:
    power = np.einsum("tn,tn->n", exact, exact)
    factor = np.einsum("tn,tn->n", exact, wrong) / np.maximum(power, 1e-30)
    # An output that is always zero has nothing to compare, and one that was turned round none of its own.
    undone = np.where(factor == 0, 1, np.abs(factor))
    return relative((wrong - exact * factor) / undone, exact * factor / undone)
