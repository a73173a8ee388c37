"""Logits of one-token runs are lent without a copy, and never written to while somebody has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.artifact import open_artifact
from edge.errors import Cancelled
from runtimes import CancelToken, Logits, Step, open_engine
from tests.runtimes.conformance import CancelAtCall
from tests.tiny_llama import byte_tokenizer

# Other tokens have no logits but zero.
LETTERS = byte_tokenizer().encode("abcdefghij").ids


class Sequence:
    def __init__(self, engine: Any) -> None:
        self.engine, self.cache = engine, engine.new_cache()

    def run(self, token: int, cancel: CancelToken | None = None) -> Logits:
        results: list[Logits] = self.engine.run([Step([token], self.cache, [0])], cancel)
        return results.pop()


@pytest.fixture
def sequence(tiny_artifact: Path) -> Sequence:
    return Sequence(open_engine(open_artifact(tiny_artifact), threads=1))


def address(logits: Logits) -> int:
    return int(logits.ctypes.data)


def test_memory_is_used_again_when_it_is_let_go(sequence: Sequence) -> None:
    addresses = {address(sequence.run(token)) for token in LETTERS}
    assert len(addresses) == 1
    seen = []
    for token in LETTERS:
        logits = sequence.run(token)[0]  # still there while the next is computed
        seen.append(address(logits))
    assert len(set(seen)) == 2


@pytest.mark.parametrize(
    "part",
    [lambda a: a, lambda a: a[0], lambda a: a[0][3:][1:], lambda a: a.T.reshape(-1)[::2], memoryview],
    ids=["all", "row", "part of a part", "every second", "buffer"],
)
def test_what_a_caller_keeps_stays(sequence: Sequence, part: Any) -> None:
    kept = [part(sequence.run(token)) for token in LETTERS]
    copies = [np.array(k) for k in kept]
    assert len({copy.tobytes() for copy in copies}) == len(copies)
    for token in LETTERS[::-1]:
        sequence.run(token)
    assert all(np.array_equal(k, copy) for k, copy in zip(kept, copies, strict=True))
    sequence.cache.close()
    sequence.engine.close()
    assert all(np.array_equal(k, copy) for k, copy in zip(kept, copies, strict=True))


def test_a_run_after_a_cancelled_one(sequence: Sequence) -> None:
    expected = sequence.run(LETTERS[0]).copy()
    sequence.cache.truncate(0)
    with pytest.raises(Cancelled):
        sequence.run(LETTERS[0], CancelAtCall(1))
    assert sequence.cache.length == 0
    assert np.array_equal(sequence.run(LETTERS[0], CancelToken()), expected)
