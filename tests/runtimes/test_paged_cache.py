"""The paged KV cache: what sequences share, what they are given and give back, and how it is kept."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.artifact import open_artifact
from edge.artifact.pages import KV_NAMES, KV_TYPES, PAGE_TOKENS, head_page_bytes
from edge.errors import EngineError, InvalidArgument, MemoryBudgetError
from edge.memory.needs import Needs
from export import export
from runtimes import Engine, Step, open_engine
from runtimes.kernels.pool import PagePool
from runtimes.kernels.token_bytes import TokenBytes
from tests.runtimes.conformance import EngineConformance, OpenEngine, fresh, run, text


@pytest.fixture(scope="session")
def paged(kernels: None, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenEngine:
    """What opens an engine on an INT4 artifact of the tiny llama."""
    path = tmp_path_factory.mktemp("paged") / "tiny.edge"
    export(tiny_checkpoint, path)
    opened = open_artifact(path)
    return lambda **options: open_engine(opened, **{"threads": 2, **options})


class TestFloat32(EngineConformance):
    kv = "fp32"
    tolerance = 0.0

    @pytest.fixture
    def open_engine(self, paged: OpenEngine) -> OpenEngine:
        return lambda **options: paged(kv=self.kv, **options)

    def test_it_is_kept_so(self, engine: Engine) -> None:
        assert {group.type for group in engine.kv} == {KV_NAMES[self.kv]}


class TestFloat16(TestFloat32):
    kv = "fp16"


class TestInt4(TestFloat32):
    kv = "int4"


@pytest.mark.parametrize("kv", KV_NAMES)
def test_a_plan_knows_the_bytes(paged: OpenEngine, kv: str) -> None:
    engine = paged(kv=kv)
    needs = Needs(spec=engine._artifact.spec, weights=0, engine="cpu", groups=engine.kv)
    cache = engine.new_cache()
    for tokens in (1, 63, 1, 64, 71):
        run(engine, cache, text(tokens))
        assert cache.nbytes == needs.kv(cache.length)


def test_types_come_near_each_other(paged: OpenEngine) -> None:
    """Fewer bits are further off, and none far."""
    exact = fresh(paged(kv="fp32"), text(200))
    off = {name: float(np.abs(fresh(paged(kv=name), text(200)) - exact).mean()) for name in KV_NAMES}
    assert off["fp32"] == 0 < off["fp16"] < off["int8"] < off["int4"] < 0.3 * float(np.abs(exact).mean())


def test_types_that_are_refused(paged: OpenEngine, tiny_artifact: Path) -> None:
    with pytest.raises(InvalidArgument, match="kv is 'int3'; choose one of fp32, fp16, int8, int4"):
        paged(kv="int3")
    with pytest.raises(EngineError, match="onnxruntime engine keeps KV as fp32, int8, int4, not fp16"):
        open_engine(open_artifact(tiny_artifact), kv="fp16")


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_batch_gives_the_same_bits(paged: OpenEngine, data: st.DataObject) -> None:
    """Sequences in one call, with others that are ahead or behind, in any chunks."""
    engine = _cached(paged, data.draw(st.sampled_from(sorted(KV_NAMES)), label="kv"))
    lengths = data.draw(st.lists(st.integers(1, 200), min_size=1, max_size=5), label="tokens")
    tokens = [text(n, seed) for seed, n in enumerate(lengths)]
    caches = [engine.new_cache() for _ in tokens]
    got: list[list[Any]] = [[] for _ in tokens]
    done = [0] * len(tokens)
    while any(n < len(t) for n, t in zip(done, tokens, strict=True)):
        counts = [data.draw(st.integers(0, len(t) - n)) for n, t in zip(done, tokens, strict=True)]
        if not any(counts):
            counts = [len(t) - n for n, t in zip(done, tokens, strict=True)]
        part = [i for i, n in enumerate(counts) if n]
        steps = [Step(tokens[i][done[i] : done[i] + counts[i]], caches[i], range(counts[i])) for i in part]
        for i, logits in zip(part, engine.run(steps), strict=True):
            got[i].append(logits)
            done[i] += counts[i]
    for parts, one in zip(got, tokens, strict=True):
        assert np.array_equal(np.concatenate(parts), fresh(engine, one))


_engines: dict[str, Engine] = {}


def _cached(paged: OpenEngine, kv: str) -> Engine:
    if kv not in _engines:
        _engines[kv] = paged(kv=kv)
    return _engines[kv]


def used(engine: Any) -> int:
    """Bytes that the engine's caches take together."""
    taken: int = engine._pools.budget.taken
    assert engine._pools.nbytes == taken
    return taken


def test_a_shared_beginning_is_held_once(paged: OpenEngine) -> None:
    engine = paged()
    trunk = engine.new_cache()
    run(engine, trunk, text(200))
    held = used(engine)
    branches = [trunk.fork(150) for _ in range(5)]
    assert used(engine) == held
    page = held // 4
    # Only the page that both go on in is copied, when one of them writes.
    run(engine, branches[0], [7])
    assert used(engine) == held + page
    run(engine, branches[0], [8])
    assert used(engine) == held + page
    trunk.close()
    # The last page was the trunk's alone.
    assert used(engine) == held
    for branch in branches:
        branch.close()
    assert used(engine) == 0


def test_who_writes_into_a_shared_page_writes_into_a_copy(paged: OpenEngine) -> None:
    engine = paged()
    trunk = engine.new_cache()
    run(engine, trunk, text(100))
    branch = trunk.fork(70)
    branch_logits = run(engine, branch, text(30, seed=3))
    expected = fresh(engine, text(70) + text(30, seed=3))[70:]
    assert np.array_equal(branch_logits, expected)
    assert np.array_equal(run(engine, trunk, [9]), fresh(engine, [*text(100), 9])[100:])
    # Both cut off in the page they shared, and written again.
    for cache in (trunk, branch):
        cache.truncate(66)
    other = trunk.fork(66)
    for cache, seed in ((trunk, 4), (branch, 5), (other, 6)):
        tokens = text(20, seed)
        assert np.array_equal(run(engine, cache, tokens), fresh(engine, text(66) + tokens)[66:])


def test_a_copy_that_does_not_fit_is_an_error_before_anything_is_written(paged: OpenEngine) -> None:
    probe = paged()
    cache = probe.new_cache()
    cache.reserve(100)
    engine = paged(kv_budget=cache.nbytes)
    trunk = engine.new_cache()
    run(engine, trunk, text(100))
    branch = trunk.fork(90)
    with pytest.raises(MemoryBudgetError):
        run(engine, branch, [5])
    assert (branch.length, trunk.length) == (90, 100)
    trunk.close()
    assert np.array_equal(run(engine, branch, [5]), fresh(paged(), [*text(90), 5])[90:])


def test_branches_in_one_call_copy_as_often_as_needed(paged: OpenEngine) -> None:
    """The last user of a page has it for itself."""
    engine: Any = paged()
    trunk = engine.new_cache()
    run(engine, trunk, text(100))
    page = used(engine) // 2
    branches = [trunk.fork(100) for _ in range(3)]
    trunk.close()
    results = engine.run([Step([t], branch, [0]) for t, branch in zip([5, 6, 7], branches, strict=True)])
    assert used(engine) == 4 * page
    for token, logits in zip([5, 6, 7], results, strict=True):
        assert np.array_equal(logits, fresh(engine, [*text(100), token])[100:])


def test_room_that_was_made_stays_when_tokens_are_forgotten(paged: OpenEngine) -> None:
    engine = paged()
    cache = engine.new_cache()
    run(engine, cache, text(100))
    cache.reserve(400)
    held = used(engine)
    cache.truncate(80)
    assert used(engine) == held
    cache.reserve(420)
    assert used(engine) == held
    # What others hold is no room.
    branch = cache.fork(80)
    cache.truncate(10)
    run(engine, cache, text(50))
    assert np.array_equal(run(engine, branch, [7]), fresh(engine, [*text(80), 7])[80:])
    branch.close()
    cache.truncate(0)
    assert used(engine) == 0


def test_an_interrupt_gives_no_page_back_twice(paged: OpenEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = paged()
    trunk = engine.new_cache()
    run(engine, trunk, text(100))
    branch, pools = trunk.fork(100), engine._pools

    def interrupted(group: int, pages: list[int]) -> None:
        type(pools).give(pools, group, pages)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pools, "give", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trunk.close()
    trunk.close()
    assert used(engine) == branch.nbytes
    assert np.array_equal(run(engine, branch, [7]), fresh(engine, [*text(100), 7])[100:])


def test_a_window_keeps_its_own_pages_only(kernels: None, tiny_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint, path = tmp_path / "checkpoint", tmp_path / "window.edge"
    shutil.copytree(tiny_checkpoint, checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"model_type": "mistral", "sliding_window": 100}
    (checkpoint / "config.json").write_text(json.dumps(config))
    export(checkpoint, path)
    engine = open_engine(open_artifact(path), threads=2)
    cache = engine.new_cache()
    sizes = []
    for i in range(0, 1000, 50):
        run(engine, cache, text(1000)[i : i + 50])
        sizes.append(used(engine))
    # The last 100 tokens lie in three pages at most.
    assert max(sizes) <= 3 * sizes[0]
    with pytest.raises(EngineError, match="window of 100 tokens has forgotten"):
        cache.truncate(500)
    with pytest.raises(EngineError, match="window has forgotten"):
        cache.export(0, 1000)
    assert cache.length == 1000
    cache.truncate(0)
    assert used(engine) == 0


def test_a_pool_that_is_full(paged: OpenEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = paged()
    cache = engine.new_cache()
    run(engine, cache, text(100))
    before = used(engine)
    pool = engine._pools.of[0]
    monkeypatch.setattr(type(pool), "free", property(lambda self: 1))
    with pytest.raises(MemoryBudgetError, match=r"needs 2 pages of KV, 1 of \d+ are free"):
        run(engine, cache, text(150))
    assert (cache.length, used(engine)) == (100, before)


def test_pages_given_back_are_given_to_the_system() -> None:
    pool = PagePool(1 << 20)
    pages = [pool.take() for _ in range(50)]
    for page in pages:
        pool.array[page] = 1
    full = resident()
    for page in pages:
        assert pool.give(page)
    assert full - resident() > 45 << 20
    again = pool.take()
    assert again in pages
    assert not pool.array[again].any()
    pool.share(again)
    assert not pool.give(again)
    assert pool.give(again)


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


LIMITED = """
import resource, sys
from runtimes.kernels.pool import PagePool
resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
small = PagePool(1 << 20)
assert 64 <= len(small.array) < 600, small.array.shape
try:
    PagePool(16 << 20)
except Exception as e:
    print(type(e).__name__, e)
"""


def test_a_budget_bounds_the_addresses() -> None:
    assert len(PagePool(1 << 20, 200 << 20).array) == 200


def test_a_process_that_may_not_have_many_addresses() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MemoryBudgetError the system refuses 1024.0 MiB of addresses")
    assert "ulimit -v" in done.stdout


def test_many_conversations_leave_nothing(paged: OpenEngine) -> None:
    engine = paged()
    for i in range(200):
        cache = engine.new_cache()
        run(engine, cache, text(70, seed=i))
        if i % 2:
            cache.close()
    del cache
    assert used(engine) == 0


@pytest.mark.parametrize("kind", KV_TYPES)
@pytest.mark.parametrize("dim", [2, 16, 64, 80])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_bytes_of_tokens_taken_out_and_put_back(kind: str, dim: int, data: st.DataObject) -> None:
    """In any parts: what is put back is what was taken out, and no other token has changed."""
    tokens = TokenBytes(kind, dim)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    size = head_page_bytes(kind, dim, dim)
    source = rng.integers(0, 256, (2, size), np.uint8)
    target = rng.integers(0, 256, (2, size), np.uint8)
    cuts = sorted({0, PAGE_TOKENS, *data.draw(st.sets(st.integers(0, PAGE_TOKENS), max_size=4))})
    for start, stop in pairwise(cuts):
        others = tokens.read(target, stop, PAGE_TOKENS)
        part = tokens.read(source, start, stop)
        assert part.shape == (2, stop - start, tokens.nbytes)
        tokens.write(target, start, part)
        assert np.array_equal(tokens.read(target, start, stop), part)
        assert np.array_equal(tokens.read(target, stop, PAGE_TOKENS), others)
    assert np.array_equal(tokens.read(target, 0, PAGE_TOKENS), tokens.read(source, 0, PAGE_TOKENS))


@pytest.mark.parametrize("kv", sorted(KV_NAMES))
def test_exported_kv_restores_the_same_bits(paged: OpenEngine, kv: str) -> None:
    engine = paged(kv=kv)
    cache, other = engine.new_cache(), engine.new_cache()
    run(engine, cache, text(150))
    whole = cache.export(0, 150)
    for start, stop in ((0, 3), (3, 64), (64, 65), (65, 150)):
        other.adopt(cache.export(start, stop))
    assert other.export(0, 150) == whole
    assert np.array_equal(run(engine, other, [5]), run(engine, cache, [5]))


def test_kv_of_another_type_is_refused(paged: OpenEngine) -> None:
    engine = paged(kv="fp16")
    cache = engine.new_cache()
    run(engine, cache, text(10))
    with pytest.raises(InvalidArgument, match="float16"):
        paged(kv="int8").new_cache().adopt(cache.export(0, 10))
