"""What only a GPU can say: the calls of CUDA and TensorRT themselves. Listed in docs/tensorrt.md as unverified.

EDGEWISE_TEST_ENGINES names an artifact with engines for this GPU, built with --context 2048, which is put beside the
portable engine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.artifact import open_artifact
from edge.errors import EdgeError
from runtimes import Engine, open_engine
from runtimes.gpu.cuda import Cuda, CudaMemory
from runtimes.gpu.staging import stage
from runtimes.static.bindings import Binding
from runtimes.static.device import Rows
from tests.logits import engine_logits, relative_error
from tests.runtimes.conformance import EngineConformance, OpenEngine, text

VARIABLE = "EDGEWISE_TEST_ENGINES"
# float16 on both sides, rounded in other places.
BOUND = 1e-2

pytestmark = pytest.mark.gpu


@pytest.fixture
def cuda() -> Iterator[Cuda]:
    """The GPU; skips where there is none."""
    try:
        found = Cuda()
    except EdgeError as e:
        pytest.skip(str(e))
    yield found
    found.close()


@pytest.fixture
def engines(cuda: Cuda) -> Path:
    """The artifact with engines; skips where none is named."""
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no artifact with engines for this GPU")
    return Path(os.environ[VARIABLE])


def test_rows_go_there_and_back(cuda: Cuda) -> None:
    memory, other = cuda.allocate(4 * 100), cuda.allocate(4 * 60)
    whole = Rows(memory, 0, 100, 100, 4)
    assert not cuda.read(whole).any()
    data = np.arange(4 * 30, dtype=np.uint8).reshape(4, 30)
    cuda.write(data, Rows(memory, 10, 30, 100, 4))
    cuda.copy(Rows(memory, 10, 30, 100, 4), Rows(other, 5, 30, 60, 4))
    assert (cuda.read(Rows(other, 5, 30, 60, 4)) == data).all()
    for each in (memory, other):
        each.free()


def test_a_graph_does_its_copies_when_it_is_launched(cuda: Cuda) -> None:
    source, target = cuda.pinned(256), cuda.allocate(256)
    source.array()[:] = 0
    graph = cuda.capture(lambda: cuda.upload(target.address, source.host, 256))
    for value in (7, 9):
        source.array()[:] = value
        graph.launch()
        assert (cuda.read(Rows(target, 0, 256, 256, 1)) == value).all()
    graph.free()
    for each in (source, target):
        each.free()


@pytest.mark.parametrize("unified", [False, True])
def test_both_ways_of_staging(cuda: Cuda, unified: bool) -> None:
    cuda.unified = unified
    staged = stage(cuda, 256)
    staged.array(Binding("input", (256,), np.dtype(np.uint8), "fed"))[:] = np.arange(256)
    staged.upload(256)
    cuda.synchronize()
    assert (
        cuda.read(Rows(CudaMemory(256, staged.address, lambda: None), 0, 256, 256, 1)) == np.arange(256)
    ).all()
    staged.free()


def test_logits_are_those_of_the_cpu(engines: Path) -> None:
    tokens = text(60)

    def logits(name: str) -> np.ndarray:
        engine: Engine = open_engine(open_artifact(engines), engine=name)
        try:
            return engine_logits(engine, tokens, 40)
        finally:
            engine.close()

    assert relative_error(logits("tensorrt"), logits("portable")) < BOUND


class TestOnDevice(EngineConformance):
    tolerance = BOUND

    @pytest.fixture
    def open_engine(self, engines: Path) -> OpenEngine:
        artifact = open_artifact(engines)
        return lambda **options: open_engine(artifact, engine="tensorrt", **options)
