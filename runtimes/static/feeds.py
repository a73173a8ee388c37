"""Feeds: what the host gives a call, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.static.bindings import FIRST, IDS, LAST, POSITIONS, TOTAL, WANTED, WRITE, Binding, Interface
from runtimes.static.masks import fill_mask

Feeds = dict[str, NDArray[Any]]


def room(table: Mapping[str, Binding]) -> Feeds:
    """Arrays for what a call is fed."""
    return {each.name: np.empty(each.shape, each.dtype) for each in table.values() if each.where == "fed"}


def fill(
    feeds: Feeds,
    interface: Interface,
    tokens: Sequence[int] | NDArray[np.int64],
    held: int,
    capacity: int,
    wanted: Any,
) -> None:
    """Write `tokens` behind `held` ones; logits are wanted at the positions `wanted`, of which a graph needs one."""
    count = len(tokens)
    feeds[IDS][0] = tokens
    feeds[WANTED][:] = wanted if len(wanted) else 0
    if interface.form.lengths:
        feeds[LAST][0] = held + count - 1
        feeds[TOTAL][0] = held + count
        if interface.turned_outside:
            feeds[FIRST][0] = held
        return
    feeds[POSITIONS][0] = np.arange(held, held + count)
    for name, window in interface.windows.items():
        fill_mask(feeds[name], interface.form, held, capacity, window)
    if interface.form.in_place:
        feeds[WRITE][0] = held
