"""The cuda engine: the provider that was asked for or an error, and its own code on a stand-in for CUDA."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import edge
from edge.artifact import open_artifact
from edge.errors import EngineError, EngineFailed, MissingExtra
from runtimes import ENGINES, open_engine
from runtimes.portable import providers
from runtimes.portable.cuda_engine import CudaEngine
from runtimes.tensorrt.cuda import Cuda
from tests.runtimes.conformance import EngineConformance, OpenEngine
from tests.runtimes.tensorrt.fake_cuda import FakeCuda
from tests.runtimes.tensorrt_artifact import HALF


class OnTheHost(CudaEngine):
    """Its memory is the stand-in's, and ONNX Runtime computes on the CPU."""

    provider = "CPUExecutionProvider"
    place = "cpu"

    fake = FakeCuda()

    @classmethod
    def _cuda(cls, ort: Any) -> Cuda:
        return Cuda(runtime=cls.fake)

    def _gpu(self, ort: Any, options: Any) -> Cuda:
        return self._cuda(ort)

    def _check(self, session: Any, ort: Any) -> None:
        pass


class TestCuda(EngineConformance):
    tolerance = HALF

    @pytest.fixture
    def open_engine(self, exported: Path) -> OpenEngine:
        artifact = open_artifact(exported)
        return lambda context=None, kv_budget=None: OnTheHost(
            artifact, 2, context or artifact.spec.context, kv_budget
        )


@pytest.mark.parametrize("unified", [False, True])
def test_a_card_is_admitted_by_its_own_memory(
    exported: Path, monkeypatch: pytest.MonkeyPatch, unified: bool
) -> None:
    monkeypatch.setattr(OnTheHost, "fake", FakeCuda(memory=100 << 20, unified=unified))
    monkeypatch.setitem(ENGINES, "cuda", OnTheHost)
    with edge.load(exported, engine="cuda", context=300) as model:
        plan = model.plan
        assert plan is not None
        assert (plan.host is None, model.engine.card is None) == (unified, unified)
        if not unified:
            assert plan.available == 100 << 20
        # The last bucket is the context.
        cache = model.engine.new_cache()
        cache.reserve(300)
        assert cache.nbytes == plan.required.kv


@pytest.mark.parametrize(
    ("machine", "match"),
    [("x86_64", r"edgewise\[gpu\]"), ("aarch64", "NVIDIA's index.*Orin"), ("mips", "none for mips")],
)
def test_a_build_without_cuda_names_the_one_that_has_it(
    exported: Path, monkeypatch: pytest.MonkeyPatch, machine: str, match: str
) -> None:
    monkeypatch.setattr(providers.platform, "machine", lambda: machine)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingExtra, match=f"has no CUDAExecutionProvider; .*{match}"):
        open_engine(open_artifact(exported), engine="cuda")
    # The same where a plan is made first.
    with pytest.raises(MissingExtra, match="has no CUDAExecutionProvider"):
        edge.load(exported, engine="cuda")


@pytest.mark.parametrize("got", [["CPUExecutionProvider"], []])
def test_a_session_that_fell_back_is_an_error(got: list[str]) -> None:
    ort = SimpleNamespace(__version__="1.32.0")
    providers.check_got(SimpleNamespace(get_providers=lambda: [providers.CUDA, "CPUExecutionProvider"]), ort)
    with pytest.raises(EngineFailed, match="lists CUDAExecutionProvider and computes with"):
        providers.check_got(SimpleNamespace(get_providers=lambda: got), ort)


def test_a_part_of_the_graph_on_the_cpu_is_refused() -> None:
    """Asked of ONNX Runtime itself, before it loads the graph."""
    entries: dict[str, str] = {}
    options = SimpleNamespace(add_session_config_entry=entries.__setitem__)
    providers.refuse_fallback(options)
    assert entries == {"session.disable_cpu_ep_fallback": "1"}


def test_artifacts_for_other_engines_are_not_for_this(tiny_artifact: Path) -> None:
    with pytest.raises(EngineError, match="no variant for engine 'tensorrt'"):
        open_engine(open_artifact(tiny_artifact), engine="cuda")
