"""What a device has to do: hold memory, move rows of it, run a graph. All that is decided is decided elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtimes.protocol import CancelToken, Logits
from runtimes.static.bindings import Binding
from runtimes.static.chunks import Profile
from runtimes.static.feeds import Feeds

Bytes = NDArray[np.uint8]


class Memory(Protocol):
    """Memory of a device, aligned for anything it runs."""

    nbytes: int

    def free(self) -> None:
        """Give it back; more than once does nothing."""


@dataclass(frozen=True)
class Rows:
    """`count` pieces of `width` bytes in `memory`, `pitch` bytes apart, the first at `offset`."""

    memory: Memory
    offset: int
    width: int
    pitch: int
    count: int


class Runner(Protocol):
    """A graph for a cache of one size, bound to one sequence's memory."""

    def run(
        self,
        feeds: Feeds,
        table: Mapping[str, Binding],
        cancel: CancelToken | None,
        behind: Callable[[], None],
    ) -> Logits:
        """Run `table`'s call. What it returns is the caller's until the next run.

        What `behind` asks of the device is done behind the call, and need not be done when this returns.

        Raises:
            Cancelled: rows behind those held may have been written.
            EngineFailed: the same.
        """


class Device(Protocol):
    """Calls on a device happen in the order in which they are made."""

    version: str
    """Of the library that runs the graph."""
    capacities: tuple[int, ...]
    """The caches that it has graphs for, by their tokens."""
    prefill: Profile
    """What a call takes; that of a single token is another graph or profile where the device has one."""

    @property
    def loaded(self) -> int:
        """The capacity whose graph is there: with another, weights are loaded anew. 0 where it makes no difference."""

    def card_free(self) -> int | None:
        """Bytes of its own memory that nobody has; None where its memory is the host's."""

    def allocate(self, nbytes: int) -> Memory:
        """Memory of zeros.

        Raises:
            MemoryBudgetError: the device has none left.
        """

    def copy(self, source: Rows, target: Rows) -> None:
        """From memory of the device to memory of the device."""

    def write(self, data: Bytes, target: Rows) -> None:
        """`data` uint8 [count, width] from the host."""

    def read(self, source: Rows) -> Bytes:
        """uint8 [count, width] to the host."""

    def runner(self, capacity: int, decode: bool, memory: Mapping[str, Memory]) -> Runner:
        """A graph whose caches and new rows, by their names, lie in `memory`; for single tokens with `decode`."""

    def close(self) -> None:
        """Release the graphs."""
