"""An answer as it comes, made in a thread of its own: Ctrl-C is heard while a prompt is prefilling too."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Protocol


class Cancellable(Protocol):
    """What is needed of an `edge.Generation`."""

    def __iter__(self) -> Iterator[str]: ...

    def cancel(self) -> None:
        """Stop within one token; from any thread."""


def pieces(generation: Cancellable) -> Generator[str, None, None]:
    """Yield the pieces of `generation`; leaving early, by Ctrl-C too, cancels it and waits for its end."""
    made: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            for piece in generation:
                made.put(piece)
        except BaseException as e:
            made.put(e)
        else:
            made.put(None)

    worker = threading.Thread(target=work, name="generation", daemon=True)
    finished = False
    try:
        worker.start()
        while True:
            item = made.get()
            if isinstance(item, str):
                yield item
                continue
            finished = True
            if item is not None:
                raise item
            return
    finally:
        if not finished:
            generation.cancel()
        if worker.is_alive():
            worker.join()


def print_answer(generation: Cancellable) -> None:
    """Print the pieces of `generation` as they come, and a line end, after an interruption too."""
    begun = False
    with closing(pieces(generation)) as stream:
        try:
            for piece in stream:
                begun = True
                sys.stdout.write(piece)
                sys.stdout.flush()
        finally:
            if begun:
                sys.stdout.write("\n")
                sys.stdout.flush()
