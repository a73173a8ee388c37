"""Feeds: what the host gives a call, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.tensorrt.bindings import FIRST, IDS, LAST, POSITIONS, TOTAL, WANTED, WRITE, Interface
from runtimes.tensorrt.masks import mask, mask_windows

Feeds = dict[str, NDArray[Any]]


def feeds(
    interface: Interface, tokens: Sequence[int] | NDArray[np.int64], held: int, capacity: int, wanted: Any
) -> Feeds:
    """Of `tokens` behind `held` ones; logits are wanted at the positions `wanted`, of which a graph needs one."""
    count = len(tokens)
    at = np.asarray(wanted, np.int64)
    found: Feeds = {
        IDS: np.asarray(tokens, np.int64)[None],
        WANTED: at if len(at) else np.zeros(1, np.int64),
    }
    if interface.form.lengths:
        found[LAST] = np.array([held + count - 1], np.int32)
        found[TOTAL] = np.array([held + count], np.int32)
        if interface.turned_outside:
            found[FIRST] = np.array([held], np.int64)
        return found
    found[POSITIONS] = np.arange(held, held + count, dtype=np.int64)[None]
    for name, window in mask_windows(interface.spec).items():
        found[name] = mask(interface.form, held, count, capacity, window)
    if interface.form.in_place:
        found[WRITE] = np.array([held], np.int64)
    return found
