"""The last norm and the LM head, over hidden states of the last layer."""

from __future__ import annotations

import numpy as np

from edge.artifact import ModelSpec
from export.architecture.decoder import head_name
from export.graph.weight_source import WeightSource
from export.quantize.method import Rows


class Head:
    """Logits of hidden states; the matrix is in memory, float32."""

    def __init__(self, spec: ModelSpec, source: WeightSource, matrix: Rows | None = None) -> None:
        self._norm, self._epsilon = source.vector("model.norm.weight"), np.float32(spec.norm_eps)
        name = f"{head_name(spec)}.weight"
        self.matrix = np.concatenate(list(source.floats(name))) if matrix is None else matrix

    def normed(self, hidden: Rows) -> Rows:
        """What goes into the matrix, float32 [tokens, hidden_size]."""
        squares = np.square(hidden).mean(axis=-1, keepdims=True, dtype=np.float32)
        return np.asarray(hidden / np.sqrt(squares + self._epsilon) * self._norm, np.float32)

    def logits(self, hidden: Rows) -> Rows:
        """float32 [tokens, vocab]."""
        return np.asarray(self.normed(hidden) @ self.matrix.T, np.float32)
