"""Attention masks: which keys the tokens of a call see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.artifact import ModelSpec
from runtimes.tensorrt.form import Form

MASK = "attention_mask"
Mask = NDArray[np.bool_]


def mask_windows(spec: ModelSpec) -> dict[str, int]:
    """The masks of a graph by name, with the tokens that each looks back: the whole context where it has no window."""
    windows = {spec.window(layer) for layer in range(spec.layers)}
    inside = sorted(window for window in windows if 0 < window < spec.context)
    every = {MASK: spec.context} if len(inside) < len(windows) else {}
    return every | {f"{MASK}.{window}": window for window in inside}


def keys(form: Form, tokens: int, capacity: int) -> int:
    """Keys of a mask: the rows of the cache, and behind them the new tokens where the graph does not write these."""
    return capacity if form.in_place else capacity + tokens


def mask(form: Form, held: int, tokens: int, capacity: int, window: int) -> Mask:
    """What `tokens` behind `held` ones see, bool [1, 1, tokens, keys]: themselves and those before, `window` in all."""
    at = np.arange(held, held + tokens)
    rows = np.arange(capacity)
    if not form.in_place:
        # A row that holds no token yet stands behind all of them.
        rows = np.concatenate([np.where(rows < held, rows, held + tokens), at])
    age = at[:, None] - rows
    return ((age >= 0) & (age < window))[None, None]
