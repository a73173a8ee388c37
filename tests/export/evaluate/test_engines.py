"""Fidelity by the engine that was asked for, and of what is for TensorRT, which no CPU runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import runtimes.portable.engine
from edge.artifact import open_artifact
from edge.errors import ContextExceeded, EngineError, EngineMismatch, InvalidArgument, MemoryBudgetError
from export import convert, export
from export.evaluate import evaluate
from export.evaluate.admission import admission, reference_bytes
from runtimes.portable import PortableEngine
from runtimes.site import Site
from runtimes.tensorrt.engine import TensorRtEngine


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graphs for TensorRT, int4. Not to be changed."""
    path = tmp_path_factory.mktemp("engines") / "tensorrt.edge"
    export(source, path, engine="tensorrt", method="rtn", fidelity=True)
    return path


@pytest.fixture
def artifact(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "tensorrt.edge")
    return tmp_path / "tensorrt.edge"


def test_an_export_for_tensorrt_is_measured(source: Path, tmp_path: Path) -> None:
    report = export(source, tmp_path / "a.edge", engine="tensorrt", method="rtn", fidelity=True)
    assert report.note == ""
    assert report.fidelity is not None
    assert (report.fidelity["engine"], report.fidelity["passed_over"]) == ("portable", "")
    opened = open_artifact(tmp_path / "a.edge")
    opened.verify()
    stored = json.loads(opened.file("fidelity.json").read_text())
    assert (stored["engine"], stored["mean_kl"]) == ("portable", report.fidelity["mean_kl"])
    assert "run by engine portable, KV float16" in opened.file("fidelity.html").read_text()
    # Activations are float16 there.
    assert len(stored["tensors"]) == 4 * opened.spec.layers
    assert {tensor["activation_error"] for tensor in stored["tensors"]} == {None}


def test_the_same_codes_are_as_far_on_other_engines(
    source: Path, artifact: Path, words: Path, tmp_path: Path
) -> None:
    """int4 costs a KL of about 0.37 here, rounded activations less than a hundredth of that."""
    convert(artifact, tmp_path / "stock.edge", engine="onnxruntime")
    a, b = (
        evaluate(path, source, text=words, samples=2, write=False)
        for path in (artifact, tmp_path / "stock.edge")
    )
    assert (a.engine, b.engine) == ("portable", "onnxruntime")
    assert a.mean_kl == pytest.approx(b.mean_kl, rel=0.02)
    assert a.perplexity == pytest.approx(b.perplexity, rel=0.01)
    assert a.top1_agreement == pytest.approx(b.top1_agreement, abs=0.03)
    assert [t["error"] for t in a.tensors] == pytest.approx([t["error"] for t in b.tensors])
    assert all(t["activation_error"] > 0 for t in b.tensors)


def test_float16_is_next_to_nothing_away(source: Path, tmp_path: Path) -> None:
    report = export(source, tmp_path / "a.edge", engine="tensorrt", weights="fp16", fidelity=True)
    assert report.fidelity is not None
    assert 0 <= report.fidelity["mean_kl"] < 1e-4


def test_kv_in_int8_is_measured_too(source: Path, words: Path, tmp_path: Path) -> None:
    """It is there in one form alone, and costs about what it costs on stock operators with the same scales.

    With float16 weights, which both engines have, little else is between them and the source.
    """
    found = []
    for engine in ("tensorrt", "onnxruntime"):
        path = tmp_path / f"{engine}.edge"
        report = export(source, path, engine=engine, weights="fp16", kv="int8", fidelity=True)
        assert report.fidelity is not None
        assert report.fidelity["kv"] == "int8"
        found.append(evaluate(path, source, text=words, samples=2, write=False))
    assert found[0].engine == "portable"
    assert found[0].mean_kl == pytest.approx(found[1].mean_kl, rel=0.1)


def test_with_a_gpu_and_no_engine_for_it(
    source: Path, artifact: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `auto` says to whoever runs it; an export cannot have any yet."""

    def none(*_: object) -> None:
        raise EngineMismatch("no engine for sm_89: run: edge build")

    monkeypatch.setattr(TensorRtEngine, "site", none)
    assert (
        export(source, tmp_path / "a.edge", engine="tensorrt", method="rtn", fidelity=True).fidelity
        is not None
    )
    with pytest.raises(EngineMismatch, match="edge build"):
        evaluate(artifact, source, text=words, samples=1)
    report = evaluate(artifact, source, text=words, samples=1, engine="portable", write=False)
    assert (report.engine, report.passed_over) == ("portable", "")


def test_what_auto_passed_over_is_told(source: Path, artifact: Path, words: Path) -> None:
    evaluate(artifact, source, text=words, samples=1)
    found = json.loads((artifact / "fidelity.json").read_text())
    assert found["engine"] == "portable"
    assert found["passed_over"].startswith("tensorrt (")


@pytest.mark.parametrize(
    ("engine", "error", "message"),
    [
        ("tpu", InvalidArgument, "engine 'tpu' is unknown; choose auto or one of cpu, onnxruntime"),
        ("cpu", EngineError, r"has no variant for engine 'cpu' \(it has: tensorrt\)"),
    ],
)
def test_an_engine_that_does_not_run_it(
    engine: str, error: type[Exception], message: str, source: Path, artifact: Path, words: Path
) -> None:
    before = (artifact / "fidelity.json").read_bytes()
    with pytest.raises(error, match=message):
        evaluate(artifact, source, text=words, engine=engine)
    assert (artifact / "fidelity.json").read_bytes() == before


def test_more_memory_than_there_is(
    source: Path, artifact: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export is whole, and says why it was not measured and what takes less."""
    opened: list[object] = []
    monkeypatch.setattr("edge.memory.admission.available_bytes", lambda: 20 << 20)
    monkeypatch.setattr(runtimes.portable.engine, "open_session", lambda *given: opened.append(given))
    report = export(source, tmp_path / "a.edge", engine="tensorrt", method="rtn", fidelity=True)
    assert report.fidelity is None
    assert report.note.startswith("fidelity was not measured: a conversation of 512 tokens needs ")
    assert report.note.endswith("edge convert --engine cpu gives the same codes to kernels that edge evaluate "
                                "measures in less memory")  # fmt: skip
    open_artifact(tmp_path / "a.edge").verify()
    assert not (tmp_path / "a.edge" / "fidelity.json").exists()
    # Floats cannot be converted.
    floats = export(source, tmp_path / "b.edge", engine="tensorrt", weights="fp16", fidelity=True)
    assert "not measured" in floats.note
    assert "edge convert" not in floats.note
    with pytest.raises(MemoryBudgetError, match=r"needs \d+ MiB .* and there are"):
        evaluate(artifact, source, text=words)
    assert opened == []


def test_the_reference_is_counted(artifact: Path) -> None:
    """A 7B model with a vocabulary of 152,000: more than its LM head in float32, less than all of it."""
    spec = replace(
        open_artifact(artifact).spec,
        vocab_size=152_064,
        hidden_size=3584,
        intermediate_size=18_944,
        layers=28,
        heads=28,
        kv_heads=4,
        head_dim=128,
        tied=False,
    )
    assert 4 * spec.vocab_size * spec.hidden_size < reference_bytes(spec) < 4 * spec.parameters / 8


def test_an_onnxruntime_that_is_too_old(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes.portable.engine, "OLDEST", dict.fromkeys(("opset24", "opset21"), "99.0"))
    report = export(source, tmp_path / "a.edge", engine="tensorrt", method="rtn", fidelity=True)
    assert report.fidelity is None
    assert report.note.startswith("fidelity was not measured: onnxruntime ")
    assert report.note.endswith("upgrade: pip install 'onnxruntime>=99.0'")
    open_artifact(tmp_path / "a.edge").verify()


def test_an_engine_that_was_built_for_less(
    source: Path, artifact: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes.portable.engine, "ladder", lambda context: (128,))
    with pytest.raises(
        ContextExceeded, match="holds 128 tokens, and 512 are wanted; build it with --context 512"
    ):
        evaluate(artifact, source, text=words, engine=PortableEngine.name)


def test_buckets_that_are_too_small_are_told_before_anything_is_loaded(artifact: Path) -> None:
    admit = admission(open_artifact(artifact), 512)
    words = "engine tensorrt of .* holds 256 tokens, and 512 are wanted; build it with --context 512"
    with pytest.raises(ContextExceeded, match=words):
        admit("tensorrt", "float16", Site(buckets=(128, 256)))


def test_beside_a_card_the_reference_is_in_the_memory_of_the_host(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_artifact(artifact)
    card = Site(card=1 << 40)
    assert admission(opened, 512)("tensorrt", "float16", card).context == 512
    reference = 8 << 30
    monkeypatch.setattr("export.evaluate.admission.reference_bytes", lambda spec: reference)
    monkeypatch.setattr("edge.memory.admission.available_bytes", lambda: reference)
    with pytest.raises(MemoryBudgetError, match="beside the GPU's memory"):
        admission(opened, 512)("tensorrt", "float16", card)
