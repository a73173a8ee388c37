"""What every engine must do: subclass EngineConformance in a test file and give it an `open_engine` fixture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import (
    Cancelled,
    ContextExceeded,
    EngineError,
    EngineFailed,
    InvalidArgument,
    MemoryBudgetError,
)
from runtimes import Cache, CancelToken, Engine, Logits, Step

OpenEngine = Callable[..., Engine]


def text(length: int, seed: int = 0) -> list[int]:
    """Random token ids that every test vocabulary has."""
    return [int(t) for t in np.random.default_rng(seed).integers(3, 200, length)]


def run(engine: Engine, cache: Cache, tokens: Sequence[int]) -> Logits:
    """Logits behind every one of `tokens`."""
    [logits] = engine.run([Step(tokens, cache, range(len(tokens)))])
    return logits


def fresh(engine: Engine, tokens: Sequence[int]) -> Logits:
    """Logits behind every one of `tokens`, run in one call from an empty cache."""
    return run(engine, engine.new_cache(), tokens)


class CancelAtCall(CancelToken):
    """Is cancelled, or does what `at` says, just as the engine begins its n-th call."""

    def __init__(self, call: int, at: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._calls_left = call
        self._at = at or self.cancel

    def on_cancel(self, abort: Callable[[], None] | None) -> None:
        super().on_cancel(abort)
        if abort is not None:
            self._calls_left -= 1
            if self._calls_left == 0:
                self._at()


class EngineConformance:
    """Cases of one contract. `tolerance` is the largest difference allowed, relative to the largest logit."""

    tolerance = 1e-5
    forgets = False
    """Whether a sliding window gives back what it has left behind, and refuses to go back there."""

    @pytest.fixture
    def engine(self, open_engine: OpenEngine) -> Engine:
        return open_engine()

    def same(self, a: Logits, b: Logits) -> None:
        assert a.dtype == b.dtype == np.float32
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= self.tolerance * np.abs(b).max()

    def refused(self, cache: Cache, event: str, length: int) -> bool:
        """Whether the cache refuses that, as only one that forgets may."""
        try:
            cache.truncate(length) if event == "truncate" else cache.fork(length).close()
        except EngineError:
            assert self.forgets
            return True
        return False

    @pytest.mark.parametrize("sizes", [[1, 59], [59, 1], [20, 20, 20], [7, 50, 3]])
    def test_prefill_in_chunks_equals_one_shot(self, engine: Engine, sizes: list[int]) -> None:
        tokens, cache, parts, at = text(60), engine.new_cache(), [], 0
        for size in sizes:
            parts.append(run(engine, cache, tokens[at : at + size]))
            at += size
        self.same(np.concatenate(parts), fresh(engine, tokens))

    def test_chunks_of_its_own_equal_small_ones(self, engine: Engine) -> None:
        tokens, cache = text(700), engine.new_cache()
        parts = [run(engine, cache, tokens[i : i + 100]) for i in range(0, 700, 100)]
        self.same(np.concatenate(parts), fresh(engine, tokens))

    def test_step_by_step_equals_prefill(self, engine: Engine) -> None:
        tokens, cache = text(40), engine.new_cache()
        steps = [run(engine, cache, [token]) for token in tokens]
        assert cache.length == 40
        self.same(np.concatenate(steps), fresh(engine, tokens))

    def test_logits_only_where_wanted(self, engine: Engine) -> None:
        tokens = text(600)
        wanted = [3, 255, 256, 599]
        [some] = engine.run([Step(tokens, engine.new_cache(), wanted)])
        self.same(some, fresh(engine, tokens)[wanted])
        cache = engine.new_cache()
        [none] = engine.run([Step(tokens, cache, [])])
        assert none.shape == (0, some.shape[1])
        assert cache.length == 600

    def test_logits_are_the_callers_to_keep(self, engine: Engine) -> None:
        tokens, cache = text(30), engine.new_cache()
        first = run(engine, cache, tokens[:1])
        kept = first.copy()
        run(engine, cache, tokens[1:2])
        assert np.array_equal(first, kept)

    def test_truncate_and_redo_equals_never(self, engine: Engine) -> None:
        tokens, cache = text(50), engine.new_cache()
        run(engine, cache, tokens[:20])
        run(engine, cache, text(30, seed=9))
        cache.truncate(20)
        assert cache.length == 20
        self.same(run(engine, cache, tokens[20:]), fresh(engine, tokens)[20:])

    def test_truncate_to_nothing_starts_again(self, engine: Engine) -> None:
        cache = engine.new_cache()
        run(engine, cache, text(20, seed=5))
        cache.truncate(0)
        self.same(run(engine, cache, text(20)), fresh(engine, text(20)))

    def test_room_grows_and_keeps_what_was_there(self, engine: Engine) -> None:
        tokens, cache, sizes, parts = text(1000), engine.new_cache(), [cache_size := 0], []
        for i in range(0, 1000, 50):
            parts.append(run(engine, cache, tokens[i : i + 50]))
            sizes.append(cache.nbytes)
        assert cache_size == 0
        if not self.forgets:
            assert sizes == sorted(sizes)
            assert sizes[1] < sizes[-1]
        self.same(np.concatenate(parts), fresh(engine, tokens))

    def test_room_follows_the_conversation_not_the_context(self, engine: Engine) -> None:
        cache = engine.new_cache()
        assert cache.nbytes == 0
        run(engine, cache, text(10))
        assert 0 < cache.nbytes < cache.nbytes / 10 * engine.context / 2

    def test_layers_add_up(self, engine: Engine) -> None:
        cache = engine.new_cache()
        run(engine, cache, text(10))
        assert sum(group.nbytes for group in cache.layers) == cache.nbytes
        assert {group.tokens for group in cache.layers} == {10}

    def test_fork_and_continue_equals_a_fresh_run(self, engine: Engine) -> None:
        tokens, other = text(60), text(60, seed=3)
        trunk = engine.new_cache()
        run(engine, trunk, tokens)
        branch = trunk.fork(30)
        assert (branch.length, trunk.length) == (30, 60)
        self.same(run(engine, branch, other[30:]), fresh(engine, tokens[:30] + other[30:])[30:])
        self.same(run(engine, trunk, other[:1]), fresh(engine, tokens + other[:1])[60:])

    def test_two_sequences_in_one_call_equal_two_calls(self, engine: Engine) -> None:
        a, b = text(30), text(17, seed=4)
        together = engine.run([Step(a, engine.new_cache(), range(30)), Step(b, engine.new_cache(), [16])])
        self.same(together[0], fresh(engine, a))
        self.same(together[1], fresh(engine, b)[16:])

    def test_exported_kv_is_adopted(self, engine: Engine) -> None:
        tokens, cache, other = text(50), engine.new_cache(), engine.new_cache()
        run(engine, cache, tokens[:40])
        other.adopt(cache.export(0, 25))
        other.adopt(cache.export(25, 40))
        assert other.length == 40
        self.same(run(engine, other, tokens[40:]), fresh(engine, tokens)[40:])

    @pytest.mark.parametrize("damage", ["nothing", "short", "long", "header", "later", "words"])
    def test_kv_data_that_does_not_fit_is_refused(self, engine: Engine, damage: str) -> None:
        cache, other = engine.new_cache(), engine.new_cache()
        run(engine, cache, text(20))
        good = cache.export(0, 10)
        bad = {
            "nothing": b"",
            "short": good[:-1],
            "long": good + b"\0",
            "header": good.replace(b'"layers": ', b'"layers": 9', 1),
            "later": cache.export(5, 10),
            "words": b"[]\n" + good,
        }[damage]
        with pytest.raises(InvalidArgument):
            other.adopt(bad)
        assert (other.length, other.nbytes) == (0, 0)

    def test_an_exhausted_budget_is_an_error_before_anything_is_written(
        self, open_engine: OpenEngine
    ) -> None:
        probe = open_engine().new_cache()
        probe.reserve(300)
        engine = open_engine(kv_budget=probe.nbytes)
        tokens, cache = text(900), engine.new_cache()
        run(engine, cache, tokens[:200])
        before = cache.nbytes
        with pytest.raises(MemoryBudgetError, match="MiB"):
            run(engine, cache, tokens[200:])
        with pytest.raises(MemoryBudgetError):
            cache.reserve(700)
        assert (cache.length, cache.nbytes) == (200, before)
        self.same(run(engine, cache, tokens[200:220]), fresh(open_engine(), tokens[:220])[200:])

    def test_a_call_that_does_not_fit_runs_none_of_its_steps(self, open_engine: OpenEngine) -> None:
        probe = open_engine().new_cache()
        probe.reserve(300)
        engine = open_engine(kv_budget=probe.nbytes)
        small, large = engine.new_cache(), engine.new_cache()
        with pytest.raises(MemoryBudgetError):
            engine.run([Step(text(10), small, []), Step(text(300), large, [])])
        assert (small.length, large.length, small.nbytes + large.nbytes) == (0, 0, 0)

    def test_memory_given_back_can_be_taken_again(self, open_engine: OpenEngine) -> None:
        probe = open_engine().new_cache()
        probe.reserve(300)
        engine = open_engine(kv_budget=probe.nbytes)
        for _ in range(3):
            cache = engine.new_cache()
            cache.reserve(300)
            cache.close()
            assert (cache.length, cache.nbytes) == (0, 0)
        dropped = engine.new_cache()
        dropped.reserve(300)
        del dropped
        engine.new_cache().reserve(300)

    def test_more_than_the_context_is_an_error_before_anything_is_written(
        self, open_engine: OpenEngine
    ) -> None:
        engine = open_engine(context=50)
        cache = engine.new_cache()
        run(engine, cache, text(40))
        with pytest.raises(ContextExceeded, match="50"):
            run(engine, cache, text(11))
        assert cache.length == 40
        run(engine, cache, text(10))
        with pytest.raises(ContextExceeded):
            cache.reserve(1)

    @pytest.mark.parametrize("call", [1, 2, 3])
    def test_cancelled_while_it_runs(self, engine: Engine, call: int) -> None:
        tokens, cache = text(1000), engine.new_cache()
        run(engine, cache, tokens[:30])
        with pytest.raises(Cancelled):
            engine.run([Step(tokens[30:], cache, [])], CancelAtCall(call))
        assert cache.length == 30
        self.same(run(engine, cache, tokens[30:60]), fresh(engine, tokens[:60])[30:])

    def test_cancelled_before_it_runs(self, engine: Engine) -> None:
        token, cache = CancelToken(), engine.new_cache()
        token.cancel()
        token.cancel()
        with pytest.raises(Cancelled):
            engine.run([Step(text(10), cache, [])], token)
        assert cache.length == 0

    @pytest.mark.parametrize(
        ("tokens", "logits_at"),
        [([], []), ([-1], []), ([1 << 40], []), ([5, 6], [2]), ([5, 6], [-1])],
    )
    def test_steps_that_make_no_sense(self, engine: Engine, tokens: list[int], logits_at: list[int]) -> None:
        cache = engine.new_cache()
        with pytest.raises(InvalidArgument):
            engine.run([Step(tokens, cache, logits_at)])
        assert cache.length == 0

    def test_no_steps_have_no_results(self, engine: Engine) -> None:
        assert engine.run([]) == []

    def test_one_cache_twice_in_a_call(self, engine: Engine) -> None:
        cache = engine.new_cache()
        with pytest.raises(InvalidArgument):
            engine.run([Step([5], cache, []), Step([6], cache, [])])

    @pytest.mark.parametrize("length", [-1, 21])
    def test_lengths_out_of_range(self, engine: Engine, length: int) -> None:
        cache = engine.new_cache()
        run(engine, cache, text(20))
        for call in (cache.truncate, cache.fork, lambda n: cache.export(0, n), lambda n: cache.export(n, 20)):
            with pytest.raises(InvalidArgument):
                call(length)
        assert cache.length == 20

    def test_a_cache_of_another_engine(self, open_engine: OpenEngine) -> None:
        with pytest.raises(EngineFailed):
            open_engine().run([Step([5], open_engine().new_cache(), [])])

    def test_a_closed_engine(self, engine: Engine) -> None:
        cache = engine.new_cache()
        engine.close()
        engine.close()
        with pytest.raises(EngineFailed, match="closed"):
            engine.run([Step([5], cache, [])])

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_any_course_of_events_equals_a_fresh_run(self, engine: Engine, data: st.DataObject) -> None:
        held: list[tuple[Cache, list[int]]] = [(engine.new_cache(), [])]
        for seed in range(data.draw(st.integers(1, 8), label="events")):
            cache, tokens = held[data.draw(st.integers(0, len(held) - 1), label="sequence")]
            event = data.draw(st.sampled_from(["run", "run", "truncate", "fork", "reserve"]), label="event")
            length = data.draw(st.integers(0, len(tokens)), label="length")
            if event == "run":
                more = text(data.draw(st.integers(1, 140), label="tokens"), seed)
                run(engine, cache, more)
                tokens += more
            elif event == "reserve":
                cache.reserve(length)
            elif self.refused(cache, event, length):
                assert cache.length == len(tokens)
            elif event == "truncate":
                del tokens[length:]
            else:
                held.append((cache.fork(length), tokens[:length]))
        for cache, tokens in held:
            assert cache.length == len(tokens)
            self.same(run(engine, cache, [7]), fresh(engine, [*tokens, 7])[-1:])
