"""The bar that is shown while bytes are worked through."""

from __future__ import annotations

import sys

from tqdm import tqdm


class ByteBar:
    """A bar on stderr with bytes and time left; silent where stderr is no terminal or `quiet` is set."""

    def __init__(self, label: str, total: int, *, quiet: bool) -> None:
        self._label = label
        # None lets tqdm find out whether stderr is a terminal.
        self._bar = tqdm(
            desc=label,
            total=total,
            unit="B",
            unit_scale=True,
            leave=False,
            dynamic_ncols=True,
            file=sys.stderr,
            disable=True if quiet else None,
        )

    def __enter__(self) -> ByteBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, nbytes: int) -> None:
        """`nbytes` more are done."""
        self._bar.update(nbytes)

    def show(self, label: str, done: int, total: int) -> None:
        """`done` of `total` bytes of the stage `label` are done; a new stage starts the bar afresh."""
        if self._bar.disable:
            return
        if label != self._label or done < self._bar.n:
            self._label = label
            self._bar.reset(total)
            self._bar.set_description(label, refresh=False)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
