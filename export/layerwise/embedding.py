"""Rows of the embedding, picked while it streams by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.graph.weight_source import WeightSource
from export.quantize.method import Rows


def embedded(source: WeightSource, windows: NDArray[np.int64]) -> Rows:
    """Hidden states before the first layer of tokens int64 [n, tokens], float32 [n, tokens, hidden_size]."""
    name = "model.embed_tokens.weight"
    picked = np.empty((windows.size, source.shape(name)[1]), np.float32)
    tokens, start = windows.ravel(), 0
    for rows in source.floats(name):
        here = np.flatnonzero((tokens >= start) & (tokens < start + len(rows)))
        picked[here] = rows[tokens[here] - start]
        start += len(rows)
    return picked.reshape(*windows.shape, -1)
