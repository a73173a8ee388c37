"""The prefix cache: what begins alike is run once, and gives what it would have given alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.cache.block import BLOCK_TOKENS, blocks
from edge.cache.disk import DiskStore
from edge.cache.folder import make_folder, stored_blocks
from edge.cache.policy import Window
from edge.cache.prefix import PrefixCache
from edge.cache.session import Session
from runtimes.protocol import CancelToken, Step
from tests.edge.toy_engine import BYTES_PER_TOKEN, ToyEngine

BLOCK_BYTES = BLOCK_TOKENS * BYTES_PER_TOKEN
CONTEXT = 1024


def words(length: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(9), k=length)


# Prompts that go on from each other, at the borders of blocks and elsewhere.
prompts = st.builds(
    lambda base, cut, more: words(400, base)[:cut] + words(more, 7 + base),
    st.integers(0, 1),
    st.sampled_from([0, 1, 63, 64, 65, 128, 200, 320]),
    st.integers(1, 150),
)


def answer(session: Session, prompt: list[int]) -> tuple[int, list[float]]:
    """What was found of the prompt, and the logits behind it."""
    held = session.rewind_to(prompt)
    logits = session.run(prompt[held:], CancelToken())
    session.keep()
    return held, logits.tolist()


def alone(prompt: list[int]) -> list[float]:
    engine = ToyEngine(vocab=9, context=CONTEXT)
    cache = engine.new_cache()
    logits: list[float] = engine.run([Step(prompt, cache, [len(prompt) - 1])])[0][0].tolist()
    return logits


@settings(deadline=None)
@given(
    requests=st.lists(st.tuples(prompts, st.booleans()), min_size=1, max_size=6),
    memory=st.sampled_from([0, 2, 3, 100]),
    disk=st.booleans(),
)
def test_every_prompt_gives_what_it_gives_alone(
    requests: list[tuple[list[int], bool]], memory: int, disk: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In new sessions and in one that goes on, whatever memory and disk hold."""
    folder = make_folder(tmp_path_factory.mktemp("prefix"))
    engine = ToyEngine(vocab=9, context=CONTEXT)
    prefix = PrefixCache("f", memory * BLOCK_BYTES, DiskStore(folder, "f", "toy", 1 << 30) if disk else None)
    lasting = Session(engine, prefix)
    read: list[list[int]] = []
    for prompt, goes_on in requests:
        session = lasting if goes_on else Session(engine, prefix)
        held, logits = answer(session, prompt)
        assert logits == alone(prompt)
        assert session.tokens == prompt
        assert prefix.nbytes <= memory * BLOCK_BYTES
        if memory == 100 or disk:
            shared = max((common(prompt[:-1], other) for other in read), default=0)
            assert held >= shared // BLOCK_TOKENS * BLOCK_TOKENS
        read.append(prompt)


def common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_the_last_token_is_always_run() -> None:
    engine, prefix = ToyEngine(vocab=9, context=CONTEXT), PrefixCache("f", 1 << 20)
    prompt = words(128, 1)
    answer(Session(engine, prefix), prompt)
    assert answer(Session(engine, prefix), prompt)[0] == 64
    assert answer(Session(engine, prefix), [*prompt, 1])[0] == 128


def test_what_was_kept_in_another_process_is_found(tmp_path: Path) -> None:
    folder, prompt = make_folder(tmp_path / "store"), words(300, 2)
    for expected in (0, 256):
        prefix = PrefixCache("f", 1 << 20, DiskStore(folder, "f", "toy", 1 << 30))
        assert answer(Session(ToyEngine(vocab=9, context=CONTEXT), prefix), prompt)[0] == expected
        prefix.close()
        assert prefix.nbytes == 0
    assert len(list(stored_blocks(folder))) == 4
    other = PrefixCache("g", 1 << 20, DiskStore(folder, "g", "toy", 1 << 30))
    assert answer(Session(ToyEngine(vocab=9, context=CONTEXT), other), prompt)[0] == 0


def test_a_block_that_is_lost_ends_what_is_found(tmp_path: Path) -> None:
    folder, prompt = make_folder(tmp_path / "store"), words(300, 2)
    prefix = PrefixCache("f", 0, DiskStore(folder, "f", "toy", 1 << 30))
    answer(Session(ToyEngine(vocab=9, context=CONTEXT), prefix), prompt)
    third = list(blocks("f", prompt))[2]
    [path] = [stored.path for stored in stored_blocks(folder) if stored.path.stem == third.key]
    path.write_bytes(path.read_bytes()[:-1])
    session = Session(ToyEngine(vocab=9, context=CONTEXT), prefix)
    held, logits = answer(session, prompt)
    assert (held, logits) == (128, alone(prompt))


def test_release_gives_back_what_is_asked_the_ends_of_old_chains_first(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "store")
    prefix = PrefixCache("f", 1 << 20, DiskStore(folder, "f", "toy", 1 << 30))
    engine = ToyEngine(vocab=9, context=CONTEXT)
    old, new = words(256, 3), words(128, 4)
    for prompt in (old, new):
        session = Session(engine, prefix)
        answer(session, prompt)
        session.close()
    assert prefix.nbytes == 6 * BLOCK_BYTES
    assert prefix.release(BLOCK_BYTES + 1) == 2 * BLOCK_BYTES
    assert {stored.path.stem for stored in stored_blocks(folder)} == {
        b.key for b in list(blocks("f", old))[2:]
    }
    assert prefix.in_memory(prefix.find(old)) == 128
    assert prefix.in_memory(prefix.find(new)) == 128
    assert prefix.release(1 << 40) == 4 * BLOCK_BYTES


def test_a_prompt_longer_than_the_context_begins_as_others_do() -> None:
    engine, prefix, window = ToyEngine(vocab=9, context=256), PrefixCache("f", 1 << 20), Window(256)
    prompt = words(700, 5)
    first = Session(engine, prefix, window)
    first.rewind_to(prompt[:250])
    first.run(prompt[:250], CancelToken())
    first.keep()
    results = []
    for shared in (None, prefix):
        session = Session(engine, shared, window)
        held = session.rewind_to(prompt)
        assert held == (192 if shared else 0)
        results.append(session.run(prompt[held:], CancelToken()).tolist())
        assert session.cache is not None
        assert session.cache.length + session.dropped == 700
        session.keep()
    assert results[0] == results[1]
    # Once its middle has gone, nothing of it is of use to others.
    assert len(prefix.find(prompt)) == 3


def test_a_session_that_slid_goes_on_only_from_all_it_has_read() -> None:
    engine, window = ToyEngine(vocab=9, context=256), Window(256)
    session = Session(engine, None, window)
    prompt = words(400, 6)
    session.rewind_to(prompt)
    session.run(prompt, CancelToken())
    ran = engine.ran
    assert session.rewind_to([*prompt, 1]) == 400
    session.run([1], CancelToken())
    assert engine.ran == ran + 1
    assert session.rewind_to(prompt[:300]) == 0
    assert (session.tokens, session.dropped) == ([], 0)


def test_a_parked_session_is_found_on_the_disk_again(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "store")
    prefix = PrefixCache("f", 0, DiskStore(folder, "f", "toy", 1 << 30))
    engine, prompt = ToyEngine(vocab=9, context=CONTEXT), words(200, 8)
    session = Session(engine, prefix)
    answer(session, prompt)
    with session.busy:
        assert session.park() == 0
    assert session.park() == 200 * BYTES_PER_TOKEN
    assert session.nbytes == 0
    assert answer(session, [*prompt, 3]) == (192, alone([*prompt, 3]))
