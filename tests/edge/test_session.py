from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.cache.session import Session
from edge.errors import ContextExceeded, MemoryBudgetError
from runtimes.protocol import CancelToken, Logits, Step
from tests.edge.toy_engine import ToyEngine

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=8)


@settings(deadline=None)
@given(st.lists(tokens, min_size=1, max_size=5), st.booleans())
def test_every_prompt_gives_what_it_gives_in_a_session_of_its_own(
    prompts: list[list[int]], forgetful: bool
) -> None:
    engine = ToyEngine(vocab=3, forgetful=forgetful)
    session = Session(engine)
    held: list[int] = []
    for prompt in prompts:
        kept = session.rewind_to(prompt)
        assert kept < len(prompt)
        assert prompt[:kept] == held[:kept]
        if not forgetful:
            assert kept == len(prompt) - 1 or prompt[: kept + 1] != held[: kept + 1]
        logits = session.run(prompt[kept:], CancelToken())
        assert session.tokens == prompt
        alone = engine.new_cache()
        assert (engine.run([Step(prompt, alone, [len(prompt) - 1])])[0][0] == logits).all()
        held = prompt


def test_room_that_is_not_there_changes_nothing() -> None:
    session = Session(ToyEngine(vocab=9, context=8, kv_tokens=6))
    session.rewind_to([1, 2, 3])
    session.run([1, 2, 3], CancelToken())
    with pytest.raises(MemoryBudgetError):
        session.rewind_to([1, 5, 6, 7, 8, 4, 4])
    with pytest.raises(ContextExceeded):
        session.rewind_to([1] * 9)
    assert session.tokens == [1, 2, 3]
    assert session.cache is not None
    assert session.cache.length == 3


def test_an_interrupt_behind_the_last_write_is_taken_back() -> None:
    class Interrupted(ToyEngine):
        def run(self, steps: object, cancel: CancelToken | None = None) -> list[Logits]:
            super().run(steps, cancel)  # type: ignore[arg-type]
            raise KeyboardInterrupt

    engine = Interrupted(vocab=9)
    session = Session(engine)
    with pytest.raises(KeyboardInterrupt):
        session.run([1, 2], CancelToken())
    assert session.cache is not None
    assert session.cache.length == len(session.tokens) == 0


def test_closed_and_run_again() -> None:
    engine = ToyEngine(vocab=9)
    session = Session(engine)
    assert session.nbytes == 0
    first = session.run([1, 2], CancelToken())
    assert session.nbytes == engine.nbytes > 0
    session.close()
    session.close()
    assert (session.nbytes, engine.nbytes, session.tokens) == (0, 0, [])
    assert (session.run([1, 2], CancelToken()) == first).all()
