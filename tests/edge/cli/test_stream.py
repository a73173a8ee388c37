"""An answer made in a thread, and left early."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from edge.cli.stream import pieces, print_answer
from edge.errors import EngineFailed


class Scripted:
    """A generation that yields what it is given, raises what is an error, and waits for cancel at None."""

    def __init__(self, *script: str | Exception | None, on_wait: int = 0) -> None:
        self._script = script
        self._on_wait = on_wait
        self.cancelled = threading.Event()
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        for step in self._script:
            if isinstance(step, Exception):
                raise step
            if step is None:
                if self._on_wait:
                    os.kill(os.getpid(), self._on_wait)
                assert self.cancelled.wait(60)
                break
            yield step
        self.ended = True

    def cancel(self) -> None:
        self.cancelled.set()


def test_pieces_come_in_order_and_nothing_is_cancelled() -> None:
    generation = Scripted("a", "b", "c")
    assert list(pieces(generation)) == ["a", "b", "c"]
    assert not generation.cancelled.is_set()


def test_an_error_of_the_generation_is_raised_here() -> None:
    stream = pieces(Scripted("a", EngineFailed("out of luck")))
    assert next(stream) == "a"
    with pytest.raises(EngineFailed, match="out of luck"):
        next(stream)


def test_ctrl_c_is_heard_before_the_first_piece() -> None:
    generation = Scripted(None, on_wait=signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        list(pieces(generation))
    assert generation.ended  # it was waited for: nothing runs on behind the prompt


def test_leaving_early_cancels() -> None:
    generation = Scripted("a", None)
    with closing(pieces(generation)) as stream:
        assert next(stream) == "a"
    assert generation.ended


@pytest.mark.parametrize(
    ("script", "printed"), [(("a", "b"), "ab\n"), ((), ""), (("a", EngineFailed("no")), "a\n")]
)
def test_an_answer_ends_its_line(
    capsys: pytest.CaptureFixture[str], script: tuple[str | Exception, ...], printed: str
) -> None:
    try:
        print_answer(Scripted(*script))
    except EngineFailed:
        assert isinstance(script[-1], EngineFailed)
    assert capsys.readouterr().out == printed
