"""The last norm and the LM head, over hidden states of the last layer."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from edge.artifact import ModelSpec
from export.architecture.decoder import head_name
from export.graph.weight_source import WeightSource
from export.layerwise.source import whole
from export.quantize.method import Rows


class Head:
    """Logits of hidden states, with the head of `source` or another `matrix`."""

    def __init__(self, spec: ModelSpec, source: WeightSource, matrix: Rows | None = None) -> None:
        self._norm, self._epsilon = source.vector("model.norm.weight"), np.float32(spec.norm_eps)
        self._source, self._name, self._given = source, f"{head_name(spec)}.weight", matrix

    @cached_property
    def matrix(self) -> Rows:
        """float32 [vocab, hidden_size]; read when it is first asked for, unless it was given."""
        return whole(self._source, self._name) if self._given is None else self._given

    def normed(self, hidden: Rows) -> Rows:
        """What goes into the matrix, float32 [tokens, hidden_size]."""
        squares = np.square(hidden).mean(axis=-1, keepdims=True, dtype=np.float32)
        return np.asarray(hidden / np.sqrt(squares + self._epsilon) * self._norm, np.float32)

    def logits(self, hidden: Rows) -> Rows:
        """float32 [tokens, vocab]."""
        return np.asarray(self.normed(hidden) @ self.matrix.T, np.float32)
