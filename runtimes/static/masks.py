"""Attention masks: which keys the tokens of a call see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.artifact import ModelSpec
from runtimes.static.form import Form

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


def fill_mask(seen: Mask, form: Form, held: int, capacity: int, window: int) -> None:
    """Write what tokens behind `held` ones see: themselves and those before, `window` in all.

    `seen` is bool [1, 1, tokens, keys], and may hold what an earlier call saw.
    """
    seen[:] = False
    for i, row in enumerate(seen[0, 0]):
        first = max(0, held + i + 1 - window)
        if form.in_place:
            row[first : held + i + 1] = True
        else:
            row[first:held] = True
            row[capacity + max(0, first - held) : capacity + i + 1] = True
