"""Blocks in memory, beside a dictionary that does the same the slow way."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from edge.cache.block import Block
from edge.cache.store import BlockStore
from runtimes.protocol import KvSpan
from tests.edge.cache.samples import chain

LIMIT = 300
BLOCKS = chain(6)
TWIN = replace(BLOCKS[2], tokens=BLOCKS[3].tokens)


@dataclass
class Span:
    """KV that is counted, not there."""

    start: int
    stop: int
    size: int
    shared: bool = False
    """A sequence uses it too: closing it gives nothing back."""
    closed: bool = False

    @property
    def nbytes(self) -> int:
        return 0 if self.closed else self.size

    def export(self) -> bytes:
        assert not self.closed
        return bytes(self.size)

    def close(self) -> int:
        assert not self.closed
        self.closed = True
        return 0 if self.shared else self.size


def span_of(block: Block, size: int = 100, shared: bool = False) -> Span:
    return Span(block.start, block.stop, size, shared)


class StoreAndDictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = BlockStore(LIMIT, self.evicted)
        self.gone: list[Block] = []
        self.spans: list[Span] = []
        self.held: OrderedDict[str, tuple[Block, Span]] = OrderedDict()
        self.dropped: list[Block] = []

    def evicted(self, block: Block, span: KvSpan) -> None:
        assert span.export() == bytes(span.nbytes)
        self.gone.append(block)

    def bytes_held(self) -> int:
        return sum(span.size for _, span in self.held.values())

    def drop(self) -> int:
        _, (block, span) = self.held.popitem(last=False)
        self.dropped.append(block)
        return 0 if span.shared else span.size

    @rule(block=st.sampled_from([*BLOCKS, TWIN]), size=st.integers(0, LIMIT + 50), shared=st.booleans())
    def put(self, block: Block, size: int, shared: bool) -> None:
        span = span_of(block, size, shared)
        self.spans.append(span)
        self.store.put(block, span)
        self.held.pop(block.key, None)
        self.held[block.key] = (block, span)
        while self.bytes_held() > LIMIT:
            self.drop()

    @rule(block=st.sampled_from([*BLOCKS, TWIN]))
    def get(self, block: Block) -> None:
        held, span = self.held.get(block.key, (None, None))
        assert self.store.get(block) is (span if held == block else None)

    @rule(touched=st.lists(st.sampled_from(BLOCKS), unique=True))
    def touch(self, touched: list[Block]) -> None:
        self.store.touch(touched)
        for block in reversed(touched):
            if block.key in self.held:
                self.held.move_to_end(block.key)

    @rule(limit=st.integers(0, LIMIT))
    def shrink(self, limit: int) -> None:
        self.store.shrink(limit)
        while self.bytes_held() > limit:
            self.drop()

    @rule(nbytes=st.integers(0, LIMIT))
    def free(self, nbytes: int) -> None:
        freed = 0
        while self.held and freed < nbytes:
            freed += self.drop()
        assert self.store.free(nbytes) == freed

    @invariant()
    def both_hold_the_same(self) -> None:
        assert self.store.blocks() == list(self.held.values())
        assert len(self.store) == len(self.held)
        assert self.store.nbytes == self.bytes_held()

    @invariant()
    def each_that_went_was_told_once(self) -> None:
        assert self.gone == self.dropped

    @invariant()
    def spans_are_closed_when_they_are_let_go(self) -> None:
        held = {id(span) for _, span in self.held.values()}
        assert all(span.closed == (id(span) not in held) for span in self.spans)


def test_it_holds_what_a_dictionary_would() -> None:
    run_state_machine_as_test(
        StoreAndDictionary, settings=settings(deadline=None, max_examples=200, stateful_step_count=30)
    )


def test_a_block_with_the_same_key_and_other_tokens_is_another() -> None:
    store = BlockStore(LIMIT, lambda block, span: None)
    span = span_of(BLOCKS[2])
    store.put(BLOCKS[2], span)
    assert store.get(TWIN) is None
    store.put(TWIN, span_of(TWIN, 70))
    assert store.get(BLOCKS[2]) is None
    assert span.closed
    assert store.nbytes == 70


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_a_block_that_cannot_be_written_gives_its_memory_back_all_the_same(error: BaseException) -> None:
    def refused(block: Block, span: KvSpan) -> None:
        raise error

    store = BlockStore(LIMIT, refused)
    spans = [span_of(block) for block in BLOCKS[:4]]
    for block, span in zip(BLOCKS[:3], spans, strict=False):
        store.put(block, span)
    with pytest.raises(type(error)):
        store.put(BLOCKS[3], spans[3])
    assert [span.closed for span in spans] == [True, False, False, False]
    assert store.nbytes == 300


def test_the_end_of_a_chain_goes_first() -> None:
    store = BlockStore(LIMIT * 2, lambda block, span: None)
    for block in BLOCKS:
        store.put(block, span_of(block))
    store.touch(BLOCKS)
    store.shrink(LIMIT)
    assert [store.get(block) is not None for block in BLOCKS] == [True] * 3 + [False] * 3
