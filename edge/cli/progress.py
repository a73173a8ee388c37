"""The bars that are shown while bytes, or parts of a whole, are worked through."""

from __future__ import annotations

import os
import sys

from tqdm import tqdm

_COLUMNS, _LINES = 79, 24


class ByteBar:
    """A bar on stderr with bytes and time left; silent where stderr is no terminal or `quiet` is set."""

    _format: str | None = None

    def __init__(self, label: str, total: int, *, quiet: bool) -> None:
        self._label = label
        sized = _tells_its_size()
        # None lets tqdm find out whether stderr is a terminal.
        self._bar = tqdm(
            desc=label,
            total=total,
            unit="B",
            unit_scale=True,
            bar_format=self._format,
            leave=False,
            dynamic_ncols=sized,
            ncols=None if sized else _COLUMNS,
            nrows=None if sized else _LINES,
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
            self._bar.set_description_str(label, refresh=False)
        self._bar.total = total
        self._bar.update(done - self._bar.n)


class PartBar(ByteBar):
    """The same of work that is counted in parts of the whole, with the time it has taken."""

    _format = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}"

    def __init__(self, label: str, *, quiet: bool) -> None:
        super().__init__(label, 1000, quiet=quiet)

    def show(self, label: str, done: int, total: int) -> None:
        """See `ByteBar`; the time goes on where nothing else does."""
        super().show(label, done, total)
        self._bar.refresh()


def _tells_its_size() -> bool:
    """Whether the terminal knows its width: serial lines and some wrappers say 0, and a bar would be empty."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):
        return False
