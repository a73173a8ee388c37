"""The unquantized model, a layer at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.artifact import ModelSpec
from export.graph.weight_source import WeightSource
from export.layerwise.arrays import ArrayWeights
from export.layerwise.embedding import embedded
from export.layerwise.layer import Layer
from export.layerwise.source import layer_arrays
from export.quantize.method import Rows


def exact_layer(
    spec: ModelSpec, layer: int, source: WeightSource, hidden: list[Rows], folder: Path
) -> list[Rows]:
    """The layer's output for groups of sequences float32 [n, tokens, hidden_size]."""
    most = max(group.shape[1] for group in hidden)
    with Layer(spec, layer, ArrayWeights(layer_arrays(spec, source, layer)), most, folder) as run:
        return [np.stack([run.run(window)[0] for window in group]) for group in hidden]


def full_precision(
    spec: ModelSpec,
    source: WeightSource,
    windows: NDArray[np.int64],
    folder: Path,
    done: Callable[[int], None],
) -> Rows:
    """Hidden states float32 [n, tokens, hidden_size] behind the last layer of the unquantized model."""
    hidden = embedded(source, windows)
    for layer in range(spec.layers):
        (hidden,) = exact_layer(spec, layer, source, [hidden], folder)
        done(1)
    return hidden
