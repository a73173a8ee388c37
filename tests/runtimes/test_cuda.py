"""The cuda engine: the provider that was asked for or an error, and its own code on a stand-in for CUDA."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import edge
from edge.artifact import open_artifact
from edge.errors import (
    ArtifactCorrupt,
    EngineError,
    EngineFailed,
    EngineTooOld,
    GpuMissing,
    MemoryBudgetError,
    MissingExtra,
)
from runtimes import ENGINES, Step, open_engine
from runtimes.cuda import CudaEngine, engine
from runtimes.gpu.cuda import Cuda
from runtimes.onnxruntime import providers, session
from runtimes.static.bindings import Interface
from runtimes.static.feeds import fill, room
from runtimes.static.form import LENGTHS
from tests.runtimes.conformance import EngineConformance, OpenEngine, text
from tests.runtimes.on_the_host import OnTheHost, needs_cuda_graphs, on_the_host
from tests.runtimes.tensorrt.fake_cuda import FakeCuda
from tests.runtimes.tensorrt_artifact import HALF, write_artifact


class TestCuda(EngineConformance):
    tolerance = HALF

    @pytest.fixture
    def open_engine(self, exported_for_cuda: Path) -> OpenEngine:
        return lambda context=None, kv_budget=None: on_the_host(exported_for_cuda, context, kv_budget)


@pytest.mark.parametrize("unified", [False, True])
def test_a_card_is_admitted_by_its_own_memory(
    exported_for_cuda: Path, monkeypatch: pytest.MonkeyPatch, unified: bool
) -> None:
    needs_cuda_graphs(exported_for_cuda)
    monkeypatch.setattr(OnTheHost, "fake", FakeCuda(memory=100 << 20, unified=unified))
    monkeypatch.setitem(ENGINES, "cuda", OnTheHost)
    with edge.load(exported_for_cuda, engine="cuda", context=300) as model:
        plan = model.plan
        assert plan is not None
        assert (plan.host is None, model.engine.card is None) == (unified, unified)
        if not unified:
            assert plan.available == 100 << 20
        # The last bucket is the context.
        cache = model.engine.new_cache()
        cache.reserve(300)
        assert cache.nbytes == plan.required.kv


@pytest.fixture(scope="module")
def narrow_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a size that GroupQueryAttention does not turn: the graph is told where the first token stands."""
    heads = {"head_dim": 8, "num_attention_heads": 8, "num_key_value_heads": 4}
    return write_artifact(tmp_path_factory.mktemp("heads"), engine="cuda", **heads)


class TestHeadsThatAreTurnedOutside(EngineConformance):
    tolerance = HALF

    @pytest.fixture
    def open_engine(self, narrow_heads: Path) -> OpenEngine:
        return lambda context=None, kv_budget=None: on_the_host(narrow_heads, context, kv_budget)


def test_keys_and_values_are_written_where_they_are_held(exported_for_cuda: Path) -> None:
    """Past and present are the same memory of a fixed capacity: a call changes the rows of its own tokens alone."""
    opened = on_the_host(exported_for_cuda)
    cache: Any = opened.new_cache()
    opened.run([Step(text(20), cache, [19])])
    rows = {name: opened._opened().read(cache.rows(name, 0, 20)) for name in cache.memory}
    assert cache.capacity == 128
    assert all(data.any() for data in rows.values())
    opened.run([Step([5], cache, [0])])
    for name, before in rows.items():
        np.testing.assert_array_equal(opened._opened().read(cache.rows(name, 0, 20)), before)
        assert opened._opened().read(cache.rows(name, 20, 21)).any()
        assert not opened._opened().read(cache.rows(name, 21, 128)).any()


@pytest.mark.parametrize("head_dim", [16, 24])
def test_what_a_call_is_fed_is_in_the_table_and_in_the_graph(head_dim: int, exported_for_cuda: Path) -> None:
    spec = open_artifact(exported_for_cuda).spec
    spec = type(spec)(**{**vars(spec), "head_dim": head_dim})
    interface = Interface(spec, LENGTHS, "float16")
    table = interface.table(3, 128, 1)
    given = room(table)
    fill(given, interface, [7, 8, 9], 40, 128, [2])
    assert {name for name, each in table.items() if each.where == "fed"} == set(given)
    for name, array in given.items():
        assert (array.shape, array.dtype) == (table[name].shape, table[name].dtype)
    assert given["seqlens_k"] == [42]
    assert given["total_sequence_length"] == [43]
    assert given.get("first_position", 40) == 40
    assert ("first_position" in given) is (head_dim == 24)
    assert interface.inputs()["past.0.key"] == (1, spec.kv_heads, None, head_dim)


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])


@pytest.mark.parametrize("name", ["cuda", "auto"])
@pytest.mark.parametrize(
    ("machine", "match"),
    [("x86_64", r"edgewise\[gpu\]"), ("aarch64", "NVIDIA's index.*Orin"), ("mips", "none for mips")],
)
@pytest.mark.usefixtures("no_cuda")
def test_a_build_without_cuda_names_the_one_that_has_it(
    exported_for_cuda: Path, monkeypatch: pytest.MonkeyPatch, name: str, machine: str, match: str
) -> None:
    """With `auto` too, where an artifact is for nothing else; and what runs the same weights on a CPU."""
    monkeypatch.setattr(providers.platform, "machine", lambda: machine)
    words = (
        rf"has no CUDAExecutionProvider; .*{match}.*Without a GPU: edge convert .*m\.edge -o OUT --engine cpu"
    )
    with pytest.raises(MissingExtra, match=words):
        open_engine(open_artifact(exported_for_cuda), engine=name)
    # The same where a plan is made first.
    with pytest.raises(MissingExtra, match=words):
        edge.load(exported_for_cuda, engine=name)


@pytest.mark.parametrize("name", ["cuda", "auto"])
def test_a_machine_without_a_gpu_says_what_runs_there(
    exported_for_cuda: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [providers.CUDA])
    monkeypatch.setattr(engine, "Cuda", lambda: Cuda(runtime=FakeCuda(gpus=0)))
    with pytest.raises(GpuMissing, match=r"CUDA finds no GPU .*Without a GPU: edge convert .* --engine cpu"):
        open_engine(open_artifact(exported_for_cuda), engine=name)


@pytest.mark.parametrize("got", [["CPUExecutionProvider"], []])
def test_a_session_that_fell_back_is_an_error(got: list[str]) -> None:
    ort = SimpleNamespace(__version__="1.32.0")
    providers.check_got(SimpleNamespace(get_providers=lambda: [providers.CUDA, "CPUExecutionProvider"]), ort)
    with pytest.raises(EngineFailed, match="lists CUDAExecutionProvider and computes with"):
        providers.check_got(SimpleNamespace(get_providers=lambda: got), ort)


class Pretending(CudaEngine):
    """Where a GPU is said to be; ONNX Runtime itself is not asked."""

    provider = "CPUExecutionProvider"

    @classmethod
    def _gpu(cls, ort: Any) -> Cuda:
        return Cuda(runtime=FakeCuda())

    def _options(self, ort: Any, threads: int) -> Any:
        return session.session_options(ort, threads, spin=False)


def test_an_engine_that_fell_back_is_not_opened(exported_for_cuda: Path) -> None:
    needs_cuda_graphs(exported_for_cuda)
    with pytest.raises(EngineFailed, match="computes with CPUExecutionProvider"):
        Pretending(open_artifact(exported_for_cuda), 1, 128, None)


class WithoutLibraries(CudaEngine):
    """A GPU, and an ONNX Runtime that does not come to compute on it."""

    @classmethod
    def _gpu(cls, ort: Any) -> Cuda:
        return Cuda(runtime=FakeCuda())


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_onnxruntime_itself_refuses_to_compute_on_the_cpu(exported_for_cuda: Path) -> None:
    """All of the graph or a part of it: it is the same session option."""
    needs_cuda_graphs(exported_for_cuda)
    with pytest.raises(EngineFailed, match=r"explicitly disabled.*library of CUDA or cuDNN is missing"):
        WithoutLibraries(open_artifact(exported_for_cuda), 1, 128, None)


@pytest.mark.parametrize(
    ("said", "error", "told"),
    [
        (
            "CUDA failure 2: out of memory ; GPU=0",
            MemoryBudgetError,
            "CUDA failure 2: out of memory.*close other",
        ),
        ("CUDNN failure 1001", EngineFailed, "CUDNN failure 1001"),
    ],
)
def test_what_the_provider_says_is_told(
    exported_for_cuda: Path, said: str, error: type[Exception], told: str
) -> None:
    """ONNX Runtime's own package would try the CPU, which the options forbid, and tell of that."""

    def refuse(*_: object, enable_fallback: bool = True, **__: object) -> None:
        assert not enable_fallback
        raise RuntimeError(said)

    ort = SimpleNamespace(__version__="1.32.0", InferenceSession=refuse)
    artifact = open_artifact(exported_for_cuda)
    with pytest.raises(error, match=told):
        session.load_graph(ort, artifact, "cuda/model.onnx", [], None)


def test_a_gpu_that_is_full_in_a_run_is_no_bad_artifact() -> None:
    e = session.failed(
        "run the model", RuntimeError("Failed to allocate memory for requested buffer of size 7")
    )
    assert isinstance(e, MemoryBudgetError)
    assert "edge verify" not in str(e)


def test_an_older_onnxruntime_is_refused(exported_for_cuda: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.__version__", "1.30.9")
    monkeypatch.setattr(session, "_installed", "onnxruntime-gpu".__eq__)
    words = r"onnxruntime 1\.30\.9 is older than 1\.31\.0, .*pip install 'onnxruntime-gpu>=1\.31\.0'"
    with pytest.raises(EngineTooOld, match=words):
        Pretending(open_artifact(exported_for_cuda), 1, 128, None)


def test_a_graph_of_other_shapes_is_refused(exported_for_cuda: Path, tmp_path: Path) -> None:
    """Memory would be written past its end."""
    copy = tmp_path / "m.edge"
    shutil.copytree(exported_for_cuda, copy)
    path = copy / "cuda" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    [past] = [i for i in model.graph.input if i.name == "past.0.key"]
    past.type.tensor_type.shape.dim[3].dim_value += 1
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactCorrupt, match=r"past\.0\.key is .*expects \[1, \d+, \.\.\., \d+\]"):
        on_the_host(copy)


def test_a_cache_of_another_type_is_refused(exported_for_cuda: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m.edge"
    shutil.copytree(exported_for_cuda, copy)
    path = copy / "cuda" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    for value in (*model.graph.input, *model.graph.output):
        if value.name == "past.0.key":
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="cannot load"):
        on_the_host(copy)


@pytest.mark.parametrize("kv", ["fp32", "int8", "int4"])
def test_other_kv_is_refused(exported_for_cuda: Path, kv: str) -> None:
    with pytest.raises(EngineError, match=f"the cuda engine keeps KV as fp16, not {kv}"):
        open_engine(open_artifact(exported_for_cuda), engine="cuda", kv=kv)


@pytest.mark.parametrize("other", ["tiny_artifact", "exported"])
def test_artifacts_for_other_engines_are_not_for_this(other: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(EngineError, match="no variant for engine 'cuda'"):
        open_engine(open_artifact(request.getfixturevalue(other)), engine="cuda")
