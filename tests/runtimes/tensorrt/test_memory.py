"""What `edge.load` admits with engines of fixed buckets, and on a card with memory of its own."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge
from edge.errors import ContextExceeded, InvalidArgument, MemoryBudgetError
from edge.memory import admission, pressure
from edge.memory.needs import Needs
from edge.memory.plan import Plan, make_plan
from edge.memory.suggest import suggestions
from runtimes.gpu.cuda import Cuda
from runtimes.site import Site
from runtimes.static.buckets import bucket, ladder
from runtimes.static.device import Rows
from runtimes.tensorrt.engine import TensorRtEngine
from runtimes.tensorrt.header import Shapes
from runtimes.tensorrt.plans import built_site, found_plans
from tests.edge.memory.sizes import R1_DISTILL_QWEN_1_5B, SMOLLM2
from tests.runtimes.conformance import run, text
from tests.runtimes.tensorrt.fake_cuda import FakeCuda
from tests.runtimes.tensorrt.fake_trt import FakeTensorRT
from tests.runtimes.tensorrt.machine import CAPACITIES, Built, Machine, build

MIB, GIB = 1 << 20, 1 << 30
HOST = 8 * GIB
VERSIONS = {"tensorrt": FakeTensorRT.__version__}


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is available of the host's memory."""
    there = [HOST]
    monkeypatch.setattr(admission, "available_bytes", lambda: there[0])
    monkeypatch.setattr(pressure, "available_bytes", lambda root, needed_files: there[0])
    return there


def load(here: Machine, **options: Any) -> edge.Model:
    return edge.load(here.artifact.path, engine="tensorrt", **options)


def plan_of(model: edge.Model) -> Plan:
    assert model.plan is not None
    return model.plan


def test_a_card_is_admitted_by_its_own_memory(machine: Built, host: list[int]) -> None:
    here = machine(cuda=FakeCuda(memory=100 * MIB))
    with load(here) as model:
        plan = plan_of(model)
        assert plan.host is not None
        assert plan.available == 100 * MIB
        assert plan.required.weights == max(each.stat().st_size - 4096 for each in engine_files(here))
        assert (plan.required.runtime, plan.required.prefix_cache) == (0, 0)
        assert (plan.host.required.weights, plan.host.required.kv) == (0, 0)
        assert plan.host.required.runtime == plan.needs.runtime > 0
        assert plan.context == max(CAPACITIES)
        assert (
            model.engine.budget.limit == plan.kv_budget == 100 * MIB - plan.required.total + plan.required.kv
        )
    # The host has not what a plan of one memory needs, and all that stays there.
    host[0] = plan.host.required.total - plan.prefix_cache
    with load(here) as model:
        assert plan_of(model).context == max(CAPACITIES)


def engine_files(here: Machine) -> list[Path]:
    return list(here.artifact.path.rglob("*.engine"))


def test_a_board_with_one_memory_is_admitted_by_that(machine: Built) -> None:
    """What CUDA calls free there is not what can be had."""
    here = machine(cuda=FakeCuda(unified=True, memory=20 * MIB))
    with load(here) as model:
        plan = plan_of(model)
        assert plan.host is None
        assert model.engine.card is None
        assert plan.available >= HOST
        assert plan.required.runtime > 0
        assert model.cache.host_pressure is None


def test_a_card_without_room_is_said_to_be_the_gpu(machine: Built, host: list[int]) -> None:
    here = machine(cuda=FakeCuda(memory=5 * GIB))
    needs = plan_of(load(here)).needs
    most = needs.weights + needs.workspace(2048) + 32 * MIB
    here.cuda.memory = most + needs.kv(512)
    assert plan_of(load(here)).context == 512
    with pytest.raises(
        MemoryBudgetError,
        match=r"a conversation of 2048 tokens needs 34 MiB \(weights 1, KV 1, workspace 1, reserve 32\) "
        r"and the GPU has 32 MiB free; what would fit: context 512 \(33 MiB\)",
    ):
        load(here, context=2048)
    here.cuda.memory = 5 * GIB + 200 * MIB
    with pytest.raises(
        MemoryBudgetError, match=r"and the GPU has 5\.1 GiB free; what would fit: sessions \d+"
    ):
        load(here, context=2048, sessions=1 << 14)
    with pytest.raises(
        MemoryBudgetError, match=r"and 32 MiB of the GPU's memory are allowed; what would fit: con"
    ):
        load(here, context=2048, memory=most + needs.kv(512))
    here.cuda.others = here.cuda.memory
    with pytest.raises(
        MemoryBudgetError, match="the GPU has 0 MiB free; what would fit: close other programs"
    ):
        load(here)
    here.cuda.others = 0
    host[0] = 40 * MIB
    with pytest.raises(
        MemoryBudgetError,
        match=r"beside the GPU's memory a conversation of 2048 tokens needs \d+ MiB \(workspace \d+, runtime \d+, "
        r"reserve 32\) of the computer's, and there are \d+; close other programs",
    ):
        load(here)


def test_activations_are_counted(machine: Built) -> None:
    """Those of the largest engine, since one is loaded at a time; with one profile there are two contexts as well."""
    here = machine()
    without = TensorRtEngine.site(here.artifact)
    artifact = build(here.artifact.path, "opset24", (512,), activation_bytes=3 * MIB)
    counted = TensorRtEngine.site(artifact)
    assert (counted.staged, counted.pinned) == (without.staged + 3 * MIB, without.pinned)
    needs = Needs.of_artifact(artifact.manifest, "tensorrt")
    assert needs.at(counted).workspace(300) == needs.at(without).workspace(300) + 3 * MIB
    assert built_site(artifact, None).staged == counted.staged
    single = {"profiles": (Shapes(1, 1),), "activation_bytes": MIB}
    artifact = build(here.artifact.path, "opset24", CAPACITIES, **single)
    found = [plan.activations for plan in found_plans(artifact, "8.9", VERSIONS)["tensorrt"]]
    assert found == [2 * MIB] * len(CAPACITIES)


def test_a_context_between_two_buckets_has_the_larger(machine: Built) -> None:
    """Budget for all of the bucket, and no token beyond what was asked for."""
    here = machine(cuda=FakeCuda(memory=GIB))
    with load(here, context=300, sessions=2) as model:
        plan = plan_of(model)
        token = plan.needs.kv_bytes_per_token
        assert (plan.context, plan.required.kv) == (300, 2 * 512 * token)
        caches = [model.engine.new_cache() for _ in range(2)]
        for cache in caches:
            run(model.engine, cache, text(300))
        assert [cache.nbytes for cache in caches] == [512 * token] * 2
        with pytest.raises(ContextExceeded, match="300"):
            caches[0].reserve(1)


def test_no_engine_for_so_many_tokens(machine: Built) -> None:
    here = machine(capacities=(256, 512))
    with pytest.raises(
        InvalidArgument,
        match=r"context is 600; this model takes .* 2048 tokens, and the engines built for it from 1 to 512; build one",
    ):
        load(here, context=600)
    with load(here) as model:
        assert (plan_of(model).max_context, model.engine.context) == (512, 512)


@pytest.mark.parametrize("form", ["opset24", "opset21"])
def test_what_is_admitted_runs(machine: Built, form: str) -> None:
    """All conversations of a plan find room on the card, where others take all that the plan has for other things."""
    here = machine(form)
    site = TensorRtEngine.site(here.artifact)
    needs = Needs.of_artifact(here.artifact.manifest, "tensorrt").at(site)

    @settings(max_examples=40, deadline=None)
    @given(context=st.integers(1, 2048), sessions=st.integers(1, 3), more=st.integers(-4, 8 * MIB))
    def holds(context: int, sessions: int, more: int) -> None:
        left = needs.weights + sessions * needs.kv(context) + needs.workspace(context) + more
        here.cuda.others, here.cuda.memory = 0, 32 * MIB + left
        if more < 0:
            with pytest.raises(MemoryBudgetError, match="the GPU has"):
                load(here, context=context, sessions=sessions)
            return
        with load(here, context=context, sessions=sessions) as model:
            required, engine = plan_of(model).required, model.engine
            engine.budget.guard = None
            here.cuda.others = left + 32 * MIB - required.kv - site.staged
            caches = [engine.new_cache() for _ in range(sessions)]
            for cache in caches:
                cache.reserve(context)
            for cache in caches:
                run(engine, cache, text(min(context, 3)))
                if context > 3:
                    run(engine, cache, [5])

    holds()


@given(context=st.integers(1, 8192), engine=st.sampled_from(["portable", "cuda"]))
def test_a_ladder_has_no_room_beyond_the_context(context: int, engine: str) -> None:
    """So that plans of these engines count tokens."""
    needs = Needs.of(SMOLLM2, 90 * MIB, "int4", engine, "float16")
    room = bucket(ladder(context), context)
    assert room == context == needs.held(context)
    assert needs.kv(context) == room * needs.kv_bytes_per_token


@given(
    available=st.integers(1, 6 * GIB),
    host=st.integers(1, 4 * GIB),
    sessions=st.integers(1, 5),
    context=st.none() | st.integers(1, 8192),
    buckets=st.lists(st.integers(1, 9000), min_size=1, max_size=5, unique=True),
    spec=st.sampled_from([SMOLLM2, R1_DISTILL_QWEN_1_5B]),
)
def test_plans_of_buckets(
    available: int,
    host: int,
    sessions: int,
    context: int | None,
    buckets: list[int],
    spec: Any,
) -> None:
    """The largest context that fits is a bucket, or all that the model takes; the next bucket does not fit."""
    site = Site(buckets=tuple(sorted(buckets)), weights=100 * MIB, staged=MIB, pinned=MIB, card=available)
    needs = Needs.of(spec, 90 * MIB, "int4", "tensorrt", "float16").at(site)
    if context is not None:
        context = min(context, needs.longest)
    plan = make_plan(needs, available, context, sessions, host=host)
    assert plan.required.kv == sessions * bucket(buckets, plan.context) * needs.kv_bytes_per_token
    assert plan.max_context in (0, *buckets, spec.context)
    if plan.max_context:
        assert make_plan(needs, available, plan.max_context, sessions, host=host).required.total <= available
    if plan.max_context < needs.longest:
        more = make_plan(needs, available, plan.max_context + 1, sessions, host=host)
        assert more.required.total > available
    assert plan.host is not None
    assert needs.workspace(plan.context) == needs.workspace(bucket(buckets, plan.context))
    # Nothing is forgotten, and nothing but what is on both sides is counted twice.
    shared = replace(needs, card=None)
    once = make_plan(shared, available, plan.context, sessions, plan.prefix_cache, plan.required.reserve)
    twice = plan.host.required.reserve + site.pinned
    assert plan.required.total + plan.host.required.total == once.required.total + twice
    if not plan.fits:
        for suggestion in suggestions(plan):
            assert suggestion.required <= available
            assert set(suggestion.change) <= {"sessions", "context"}


def test_others_that_take_the_cards_memory_later(machine: Built, host: list[int], tmp_path: Path) -> None:
    """Idle chats give it back, blocks on the host stay: they hold nothing of the card."""
    here = machine(cuda=FakeCuda(memory=GIB))
    with load(here, store=tmp_path / "store") as model:
        card, system = model.cache.pressure, model.cache.host_pressure
        assert card is not None
        assert system is not None
        for each in (card, system):
            each.close()
        assert model.engine.card is not None
        "".join(model.generate(text(300), max_tokens=2, temperature=0))
        chat = model.chat(max_tokens=2, ignore_eos=True)
        "".join(chat.send("hello " * 40))
        assert model.cache.prefix is not None
        held = model.cache.prefix.nbytes
        assert model.engine.card.copies.taken == held > 0
        assert chat.cache is not None
        assert model.engine.budget.taken == chat.cache.nbytes

        # What the host lacks is no matter of the card's.
        host[0] = 0
        assert card.relieve() == 0
        here.cuda.others = here.cuda._left()
        assert card.relieve() > 0
        assert (chat.cache, model.cache.prefix.nbytes) == (None, held)
        with pytest.raises(MemoryBudgetError, match=r"are needed and the GPU has .* MiB left"):
            "".join(model.generate(text(300), max_tokens=2))
        here.cuda.others = 0
        assert system.relieve() > 0
        assert model.cache.prefix.nbytes == 0
        # Copies are refused in silence, as on other engines; answers go on.
        "".join(model.generate(text(300), max_tokens=2))
        assert model.cache.prefix.nbytes == 0


def test_new_rows_are_copied_before_the_one_wait_of_a_step(machine: Built) -> None:
    here = machine("opset21")
    engine = here.open()
    cache = engine.new_cache()
    run(engine, cache, text(20))
    run(engine, cache, [5])
    run(engine, cache, [6])
    here.cuda.calls.clear()
    run(engine, cache, [7])
    copies = ["cudaMemcpyDeviceToDevice2D"] * 2 * here.artifact.spec.layers
    assert here.cuda.calls == ["launch", *copies, "synchronize"]


def test_what_another_thread_asks_for_is_not_in_a_graph() -> None:
    fake = FakeCuda()
    cuda = Cuda(runtime=fake)
    source, target = cuda.allocate(64), cuda.allocate(64)
    fake.cudaMemsetAsync(source.address, 7, 64, 77)
    rows = [Rows(memory, 0, 64, 64, 1) for memory in (source, target)]
    other = threading.Thread(target=lambda: cuda.copy(*rows))

    def work() -> None:
        other.start()
        # As long as it takes to get there, which it must not.
        other.join(0.05)

    graph = cuda.capture(work)
    other.join()
    assert (cuda.read(rows[1]) == 7).all()
    assert fake._ready[max(fake._ready)] == []
    graph.free()
