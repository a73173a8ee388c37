"""The tensorrt engine on stand-ins for CUDA and TensorRT: all of its own code but the calls themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.artifact import kv_groups, open_artifact
from edge.artifact.engine_files import engine_name
from edge.errors import (
    ArtifactCorrupt,
    EngineDamaged,
    EngineError,
    EngineFailed,
    EngineMismatch,
    GpuMissing,
    MemoryBudgetError,
    MissingExtra,
    TensorRTMissing,
)
from runtimes import Step, open_engine
from runtimes.gpu import cuda as cuda_module
from runtimes.gpu.cuda import Cuda, PinnedMemory
from runtimes.static.bindings import Interface
from runtimes.tensorrt import library
from runtimes.tensorrt.device import TensorRtDevice
from runtimes.tensorrt.header import engines
from tests.logits import relative_error
from tests.runtimes.conformance import EngineConformance, OpenEngine, fresh, run, text
from tests.runtimes.tensorrt.fake_cuda import FakeCuda
from tests.runtimes.tensorrt.fake_trt import FakeContext, FakeTensorRT, FakeTensorRtRtx
from tests.runtimes.tensorrt.machine import CAPACITIES, Built, build
from tests.runtimes.tensorrt_artifact import HALF


class TestDiscreteInPlace(EngineConformance):
    tolerance = HALF
    form, unified = "opset24", False

    @pytest.fixture
    def open_engine(self, machine: Built) -> OpenEngine:
        return machine(self.form, FakeCuda(unified=self.unified)).open


class TestDiscreteNewRows(TestDiscreteInPlace):
    form = "opset21"


class TestUnifiedNewRows(TestDiscreteInPlace):
    form, unified = "opset21", True


@pytest.mark.parametrize("unified", [False, True])
def test_a_token_is_one_launch(machine: Built, unified: bool) -> None:
    here = machine(cuda=FakeCuda(unified=unified))
    engine = here.open()
    tokens, cache = text(40), engine.new_cache()
    first = run(engine, cache, tokens[:20])
    # Nothing of a prefill is captured; of a token what TensorRT settles first is not.
    rest = [run(engine, cache, tokens[20:21])]
    assert here.cuda.count("launch") == 0
    here.cuda.calls.clear()
    rest += [run(engine, cache, [token]) for token in tokens[21:]]
    assert (here.cuda.count("instantiate"), here.cuda.count("launch")) == (1, 19)
    # On a card the copies are in the graph, on a board there are none.
    copies = [name for name in here.cuda.calls if name.startswith("cudaMemcpy")]
    assert len(copies) == (0 if unified else 6)
    assert relative_error(np.concatenate([first, *rest]), fresh(engine, tokens)) < HALF


@pytest.mark.parametrize("form", ["opset24", "opset21"])
def test_a_token_that_is_a_launch_binds_nothing(
    machine: Built, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """What the host did before it would be done while the GPU waits."""
    engine = machine(form).open()
    tokens, first, second = text(20), engine.new_cache(), engine.new_cache()
    expected = fresh(engine, tokens)[10:]
    for cache in (first, second):
        run(engine, cache, tokens[:8])
        for token in tokens[8:10]:
            run(engine, cache, [token])
    for kind, name in ((Interface, "table"), (FakeContext, "set_tensor_address"), (PinnedMemory, "array")):
        monkeypatch.setattr(kind, name, lambda *_: pytest.fail("bound anew"))
    # One after the other in the same arrays, and one goes back.
    found = [np.concatenate([run(engine, first, [t]) for t in tokens[10:]])]
    found += [np.concatenate([run(engine, second, [t]) for t in tokens[10:]])]
    first.truncate(10)
    found += [np.concatenate([run(engine, first, [t]) for t in tokens[10:]])]
    for logits in found:
        assert relative_error(logits, expected) < HALF


@pytest.mark.parametrize("wanted", [[], [0], [0, 0]])
def test_a_token_has_the_logits_that_are_asked_for(machine: Built, wanted: list[int]) -> None:
    engine = machine().open()
    expected = fresh(engine, [5])[wanted]
    cache = engine.new_cache()
    [logits] = engine.run([Step([5], cache, wanted)])
    kept = logits.copy()
    # They are the caller's, whatever comes behind them.
    run(engine, cache, [6])
    assert logits.shape == expected.shape
    assert (logits == kept).all()
    assert not wanted or relative_error(logits, expected) < HALF


def test_a_cache_that_grows_has_a_graph_of_its_own(machine: Built) -> None:
    here = machine()
    engine = here.open()
    tokens, cache = text(270), engine.new_cache()
    run(engine, cache, tokens[:250])
    parts = [run(engine, cache, [token]) for token in tokens[250:]]
    assert len(here.trt.engines) == 2
    assert here.cuda.count("instantiate") == 2
    assert here.cuda.graphs() == 1
    assert relative_error(np.concatenate(parts), fresh(engine, tokens)[250:]) < HALF


@pytest.mark.parametrize("kind", [FakeTensorRT, FakeTensorRtRtx])
def test_weights_are_never_there_twice(machine: Built, kind: type[FakeTensorRT]) -> None:
    """Sequences hold nothing of the engine that they ran on, whatever bucket the next one has."""
    here = machine(kind=kind)
    token = sum(group.bytes_per_token for group in kv_groups(here.artifact.spec, "tensorrt", "float16"))
    engine = here.open(kv_budget=2048 * token * 5 // 4)
    small, large = engine.new_cache(), engine.new_cache()
    for cache, tokens in ((small, 10), (large, 600), (small, 1)):
        # Two of one token each: there is a graph as well.
        for part in (text(tokens), [7], [8]):
            run(engine, cache, part)
    assert (len(here.trt.engines), here.trt.most) == (3, 1)
    engine.close()
    assert here.trt.alive == 0
    assert here.cuda.graphs() == 0


def test_a_small_sequence_goes_on_in_the_large_ones_bucket(machine: Built) -> None:
    here = machine()
    engine = here.open()
    device = engine._opened()
    small, large = engine.new_cache(), engine.new_cache()
    run(engine, small, text(10))
    assert device.loaded == 256
    run(engine, large, text(600))
    assert (device.loaded, len(here.trt.engines)) == (2048, 2)
    ours = run(engine, small, [7])
    assert (device.loaded, len(here.trt.engines), small.nbytes) == (2048, 2, large.nbytes)
    assert relative_error(ours, fresh(engine, [*text(10), 7])[10:]) < HALF


def test_where_the_budget_has_no_room_for_that_the_engine_changes(machine: Built) -> None:
    here = machine()
    probe = here.open().new_cache()
    probe.reserve(2000)
    engine = here.open(kv_budget=probe.nbytes * 5 // 4)
    small, large = engine.new_cache(), engine.new_cache()
    run(engine, small, text(10))
    run(engine, large, text(600))
    ours = run(engine, small, [7])
    assert engine._opened().loaded == 256
    expected = fresh(here.open(), [*text(10), 7])[10:]
    assert relative_error(ours, expected) < HALF


def test_more_logits_than_a_profile_has_are_more_calls(machine: Built) -> None:
    engine = machine().open()
    assert engine._opened().prefill.logits == 8
    tokens = text(50)
    wanted = [49, 3, 3, *range(20)]
    [some] = engine.run([Step(tokens, engine.new_cache(), wanted)])
    assert relative_error(some, fresh(engine, tokens)[wanted]) < HALF


def test_what_cannot_be_captured_runs_without_a_graph_and_says_so(machine: Built) -> None:
    here = machine()
    here.cuda.capturable = False
    engine = here.open()
    tokens, cache = text(24), engine.new_cache()
    parts = [run(engine, cache, [token]) for token in tokens]
    device = engine._opened()
    assert isinstance(device, TensorRtDevice)
    assert "cudaErrorStreamCaptureUnsupported" in device.no_graph
    assert here.cuda.count("launch") == 0
    assert relative_error(np.concatenate(parts), fresh(engine, tokens)) < HALF


def test_all_of_the_memory_is_given_back(machine: Built) -> None:
    here = machine("opset21")
    engine = here.open()
    cache = engine.new_cache()
    run(engine, cache, text(300))
    run(engine, cache, [5])
    run(engine, cache, [5])
    assert here.cuda.held
    cache.close()
    engine.close()
    assert (here.cuda.held, here.cuda.graphs()) == ({}, 0)


def test_a_gpu_whose_memory_is_full(machine: Built) -> None:
    here = machine()
    engine = here.open()
    tokens, cache = text(300), engine.new_cache()
    run(engine, cache, tokens[:200])
    used, taken = len(here.cuda.held), engine.budget.taken
    full, here.cuda.memory = here.cuda.memory, here.cuda.memory - here.cuda._left() + 40000
    with pytest.raises(MemoryBudgetError, match="no memory left"):
        run(engine, cache, tokens[200:])
    assert (cache.length, len(here.cuda.held), engine.budget.taken) == (200, used, taken)
    here.cuda.memory = full
    assert relative_error(run(engine, cache, tokens[200:]), fresh(engine, tokens)[200:]) < HALF


def test_an_engine_that_does_not_fit_the_gpu(machine: Built) -> None:
    with pytest.raises(MemoryBudgetError, match="the GPU has 0 MiB"):
        machine(cuda=FakeCuda(memory=10)).open()


@pytest.mark.parametrize(
    ("changes", "sm", "match"),
    [
        ({}, "8.7", r"built for sm_89 .*this is sm_87 .*edge build"),
        ({"version": "10.3.0.26"}, "8.9", r"TensorRT 10\.3; this is sm_89 with TensorRT 10\.16"),
        ({"flavour": "tensorrt_rtx"}, "8.9", r"TensorRT-RTX .*this is .* TensorRT 10\.16"),
        ({"artifact": "0" * 32}, "8.9", "built from another artifact"),
        ({"platform": "linux-mips"}, "8.9", "built for linux-mips"),
    ],
)
def test_engines_that_are_for_something_else(
    machine: Built, changes: dict[str, Any], sm: str, match: str
) -> None:
    with pytest.raises(EngineMismatch, match=match):
        machine(cuda=FakeCuda(sm), **changes).open()


def test_a_damaged_engine_is_passed_over(machine: Built) -> None:
    here = machine()
    name = engines(here.artifact)[-1][0]
    (here.artifact.path / name).write_bytes(b"damaged")
    assert here.open()._device.capacities == CAPACITIES[:-1]


def test_a_damaged_engine_is_told_where_it_is_what_is_wanted(machine: Built) -> None:
    here = machine(sms=("8.6",))
    old, new = engines(here.artifact)[0][0], engine_name(["8.9"], 256, "0" * 8)
    (here.artifact.path / old).rename(here.artifact.path / new)
    manifest = here.artifact.path / "edge.json"
    manifest.write_text(manifest.read_text().replace(old, new))
    here.artifact = open_artifact(here.artifact.path)
    with pytest.raises(EngineMismatch, match="built for sm_86"):
        here.open()
    (here.artifact.path / new).write_bytes(b"damaged")
    with pytest.raises(
        EngineDamaged, match=r"build it again with: edge build .*/m\.edge --target sm89 --context 256$"
    ):
        here.open()


def test_of_several_that_are_for_something_else_the_newest_says_why(machine: Built) -> None:
    here = machine(capacities=(256,), version="10.4.0.1")
    build(here.artifact.path, "opset24", (512,), version="10.3.0.26", built=1_790_000_001)
    here.artifact = build(here.artifact.path, "opset24", (2048,), version="10.4.0.1")
    with pytest.raises(EngineMismatch, match=r"512\.engine is built for .* TensorRT 10\.3;"):
        here.open()


def test_no_engines_at_all(machine: Built) -> None:
    with pytest.raises(EngineError, match=r"has no engine for sm_89; build one: edge build .*--target sm89"):
        machine(capacities=()).open()


def test_engines_of_another_model(machine: Built) -> None:
    here = machine()
    here.trt.interface = replace(here.trt.interface, kv_type="int8")
    with pytest.raises(ArtifactCorrupt, match=r"past\.0\.key is int8.*build it again"):
        here.open()


def test_a_plan_that_tensorrt_does_not_take(machine: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine()
    monkeypatch.setattr(here.trt, "deserialize_cuda_engine", lambda data: None)
    with pytest.raises(EngineFailed, match=r"does not take .*\.engine"):
        here.open()


def test_no_gpu(machine: Built) -> None:
    here = machine(cuda=FakeCuda(gpus=0))
    with pytest.raises(GpuMissing, match="cudaErrorNoDevice"):
        here.open()
    with pytest.raises(GpuMissing, match="no GPU 3: CUDA sees 1"):
        Cuda(3, FakeCuda())
    # The engine that can run it all the same tells why it has to.
    engine = open_engine(here.artifact)
    assert engine.name == "portable"
    assert engine.passed_over.startswith("tensorrt (CUDA finds no GPU")
    with pytest.raises(GpuMissing):
        open_engine(here.artifact, engine="tensorrt")


def test_no_packages(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    for machine, match in (
        ("x86_64", r"edgewise\[tensorrt\]"),
        ("aarch64", "nvidia-jetpack"),
        ("mips", "no TensorRT"),
    ):
        monkeypatch.setattr(library.platform, "machine", lambda name=machine: name)
        with pytest.raises(TensorRTMissing, match=match):
            open_engine(open_artifact(exported), engine="tensorrt")
    monkeypatch.setattr(cuda_module, "_MODULE", "no.such.module")
    with pytest.raises(MissingExtra, match=r"cuda-bindings is not installed.*pip install cuda-bindings"):
        Cuda()
