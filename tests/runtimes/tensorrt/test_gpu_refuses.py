"""A GPU that refuses a call, or is interrupted: what is told, what is given back, and what goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge.errors import EngineFailed, MemoryBudgetError
from runtimes.gpu.cuda import Cuda
from tests.logits import relative_error
from tests.runtimes.conformance import fresh, run, text
from tests.runtimes.tensorrt.fake_cuda import FakeCuda, cudaError_t
from tests.runtimes.tensorrt.machine import Built
from tests.runtimes.tensorrt_artifact import HALF

FULL = cudaError_t.cudaErrorMemoryAllocation
WRONG = cudaError_t.cudaErrorInvalidValue


def test_without_memory_for_a_graph_decoding_goes_on(machine: Built) -> None:
    here = machine()
    here.cuda.cudaGraphInstantiate = lambda graph, flags: (FULL, None)  # type: ignore[method-assign]
    engine = here.open()
    tokens, cache = text(9), engine.new_cache()
    parts = [run(engine, cache, [token]) for token in tokens]
    assert relative_error(np.concatenate(parts), fresh(engine, tokens)) < HALF
    assert "no memory left" in engine._opened().no_graph  # type: ignore[attr-defined]


@pytest.mark.parametrize("call", ["cudaMemcpy2DAsync", "cudaGraphLaunch"])
def test_what_is_under_way_ends_before_a_run_that_fails(
    machine: Built, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The next run writes where it reads."""
    here = machine("opset21")
    engine = here.open()
    cache = engine.new_cache()
    for part in (text(5), [1], [2]):
        run(engine, cache, part)

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(here.cuda, call, interrupted)
    here.cuda.calls.clear()
    with pytest.raises(KeyboardInterrupt):
        run(engine, cache, [3])
    assert here.cuda.calls[-1] == "synchronize"
    monkeypatch.undo()
    assert cache.length == 7
    assert relative_error(run(engine, cache, [3]), fresh(engine, [*text(5), 1, 2, 3])[-1:]) < HALF


@pytest.mark.parametrize(
    ("name", "call"), [("allocate", "cudaMemsetAsync"), ("pinned", "cudaHostGetDevicePointer")]
)
def test_memory_that_is_no_use_is_given_back(name: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda()
    monkeypatch.setattr(fake, call, lambda *_: (WRONG, None))
    with pytest.raises(EngineFailed, match=f"{call} failed"):
        getattr(Cuda(runtime=fake), name)(100)
    assert fake.held == {}


def test_memory_of_the_host_is_not_said_to_be_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda()
    monkeypatch.setattr(fake, "cudaHostAlloc", lambda *_: (FULL, None))
    with pytest.raises(MemoryBudgetError, match=r"host's memory .* pinned") as raised:
        Cuda(runtime=fake).pinned(100)
    assert "the GPU has no memory" not in str(raised.value)


@pytest.mark.parametrize("capturable", [True, False])
def test_a_capture_that_fails_leaves_no_graph(capturable: bool) -> None:
    fake = FakeCuda()
    fake.capturable = capturable

    def work() -> None:
        raise EngineFailed("TensorRT failed")

    with pytest.raises(EngineFailed, match="TensorRT failed"):
        Cuda(runtime=fake).capture(work)
    assert fake._graphs == {}
