"""The cpu engine passes the conformance suite, and what is special to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.artifact import open_artifact
from edge.cache.session import Session
from edge.errors import (
    ArtifactCorrupt,
    EngineError,
    EngineTooOld,
    InvalidArgument,
    KernelsMissing,
    MemoryBudgetError,
)
from edge.memory.needs import Needs
from runtimes import Engine, Step, open_engine
from runtimes.kernels import library
from runtimes.kernels.library import load_library
from runtimes.protocol import CancelToken
from tests.runtimes.conformance import CancelAtCall, EngineConformance, OpenEngine, fresh, run, text


@pytest.fixture(scope="session")
def export_cpu(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Export the tiny llama for the cpu engine, its config.json changed, with the options of `export`."""
    from export import export

    def make(name: str, config: dict[str, object], **options: Any) -> Path:
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(tiny_checkpoint, folder / "checkpoint")
        path = folder / "checkpoint" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
        export(folder / "checkpoint", folder / f"{name}.edge", engine="cpu", **options)
        return folder / f"{name}.edge"

    return make


@pytest.fixture(scope="session")
def artifact(export_cpu: Callable[..., Path]) -> Path:
    """An INT4 artifact for the cpu engine. Not to be changed: copy it first."""
    return export_cpu("cpu", {})


def opener(path: Path, threads: int = 2) -> OpenEngine:
    opened = open_artifact(path)
    return lambda **options: open_engine(opened, **{"threads": threads, **options})


VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "int4": ({}, {}),
    "int4-128": ({}, {"block": 128}),
    "int8": ({}, {"weights": "int8", "block": 64, "zero_points": True}),
    "window": ({"model_type": "mistral", "sliding_window": 24}, {}),
}


@pytest.fixture(scope="session")
def variants(kernels: None, export_cpu: Callable[..., Path]) -> dict[str, OpenEngine]:
    """What opens an engine on each artifact of VARIANTS."""
    return {name: opener(export_cpu(name, config, **options)) for name, (config, options) in VARIANTS.items()}


class TestInt4(EngineConformance):
    variant = "int4"
    # Every operator is ours: the same bits.
    tolerance = 0.0

    @pytest.fixture
    def open_engine(self, variants: dict[str, OpenEngine]) -> OpenEngine:
        return variants[self.variant]

    def test_it_is_this_engine(self, open_engine: OpenEngine) -> None:
        engine = open_engine()
        assert engine.name == "cpu"
        assert engine.isa in load_library().isas


class TestInt4Blocks128(TestInt4):
    variant = "int4-128"


class TestInt8ZeroPoints(TestInt4):
    variant = "int8"


class TestWindow(TestInt4):
    variant = "window"
    forgets = True


@pytest.fixture(scope="session")
def engines(variants: dict[str, OpenEngine]) -> dict[str, list[Engine]]:
    """Engines of 1, 2, 3 and 16 threads for each of VARIANTS."""
    return {
        name: [open_engine(threads=threads) for threads in (1, 2, 3, 16)]
        for name, open_engine in variants.items()
    }


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_the_same_tokens_give_the_same_bits(engines: dict[str, list[Engine]], data: st.DataObject) -> None:
    """Whatever the chunks they came in, the number of threads and the instruction set."""
    loaded = load_library()
    variant = data.draw(st.sampled_from(sorted(engines)))
    tokens = data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=150))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(tokens)), max_size=6)) | {0, len(tokens)})
    engine = data.draw(st.sampled_from(engines[variant]))
    expected = fresh(engines[variant][0], tokens)
    cache = engine.new_cache()
    try:
        loaded.use(data.draw(st.sampled_from(loaded.isas)))
        parts = [run(engine, cache, tokens[a:b]) for a, b in pairwise(cuts)]
    finally:
        loaded.use("auto")
        cache.close()
    assert np.array_equal(np.concatenate(parts), expected)


def test_a_long_prompt_has_room_in_what_a_plan_gives_a_window(
    kernels: None, export_cpu: Callable[..., Path]
) -> None:
    """Of a window a plan counts what a slice of the prompt needs, however long the prompt is."""
    config = {"model_type": "mistral", "sliding_window": 24, "max_position_embeddings": 4096}
    open_engine = opener(export_cpu("long-window", config))
    prompt = text(3000)
    expected = fresh(open_engine(), prompt)[-1]
    engine = open_engine()
    needs = Needs(spec=engine._artifact.spec, weights=0, engine="cpu", groups=engine.kv)
    budget = needs.kv(len(prompt) + 500)
    assert budget == needs.kv(1500) < needs.kv(1000) * 3 // 2
    small = open_engine(kv_budget=budget)
    with pytest.raises(MemoryBudgetError):
        fresh(small, prompt)
    session = Session(small)
    assert session.rewind_to(prompt) == 0
    assert np.array_equal(session.run(prompt, CancelToken()), expected)
    longer = [*prompt, *text(500, seed=1)]
    assert session.rewind_to(longer) == 3000
    assert np.array_equal(session.run(longer[3000:], CancelToken()), fresh(open_engine(), longer)[-1])
    assert session.tokens == longer


def test_more_threads_than_the_kernels_take(kernels: None, artifact: Path) -> None:
    with pytest.raises(InvalidArgument, match="threads is 300"):
        opener(artifact, 300)()


def test_two_engines_side_by_side(kernels: None, artifact: Path) -> None:
    engines = [opener(artifact, 2)(), opener(artifact, 3)()]
    expected = fresh(engines[0], text(200))
    results: list[Any] = [None, None]

    def work(i: int) -> None:
        results[i] = fresh(engines[i], text(200))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(result, expected) for result in results)


def test_without_the_library(artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(library, "BUILT", tmp_path / "none.so")
    for engine in ("auto", "cpu"):
        with pytest.raises(KernelsMissing, match=r"scripts/kernels.*edge convert"):
            open_engine(open_artifact(artifact), engine=engine)
    with pytest.raises(EngineError, match=r"no variant for engine 'onnxruntime' \(it has: cpu\)"):
        open_engine(open_artifact(artifact), engine="onnxruntime")


@pytest.mark.parametrize(("key", "value"), [("layout_version", 2), ("layout", "tiles")])
def test_another_layout(kernels: None, artifact: Path, tmp_path: Path, key: str, value: Any) -> None:
    path = copied(artifact, tmp_path)
    manifest = json.loads((path / "edge.json").read_text())
    manifest["variants"][0][key] = value
    (path / "edge.json").write_text(json.dumps(manifest))
    with pytest.raises(EngineTooOld, match=rf"layout .*{value}.*reads panels 3"):
        open_engine(open_artifact(path))


@pytest.mark.parametrize("engine", ["cpu", "onnxruntime"])
def test_weights_cut_short_after_they_were_opened(
    kernels: None, artifact: Path, tiny_artifact: Path, tmp_path: Path, engine: str
) -> None:
    path = copied(artifact if engine == "cpu" else tiny_artifact, tmp_path)
    opened = open_artifact(path)
    weights = path / engine / "weights.bin"
    size = weights.stat().st_size
    os.truncate(weights, size - 4096)
    with pytest.raises(
        ArtifactCorrupt, match=rf"weights\.bin has {size - 4096} bytes, the manifest says {size}"
    ):
        open_engine(opened)


def test_an_artifact_with_both_runs_on_what_is_there(
    kernels: None, artifact: Path, tiny_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied(tiny_artifact, tmp_path)
    shutil.copytree(artifact / "cpu", path / "cpu")
    ours, other = (json.loads((p / "edge.json").read_text()) for p in (path, artifact))
    ours["variants"] += other["variants"]
    ours["files"] += [entry for entry in other["files"] if entry["path"].startswith("cpu/")]
    (path / "edge.json").write_text(json.dumps(ours))
    assert open_engine(open_artifact(path)).name == "cpu"
    assert open_engine(open_artifact(path), engine="onnxruntime").name == "onnxruntime"
    monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(library, "BUILT", tmp_path / "none.so")
    assert open_engine(open_artifact(path)).name == "onnxruntime"
    with pytest.raises(KernelsMissing):
        open_engine(open_artifact(path), engine="cpu")
    # A library that is there and broken is told, not passed over.
    (tmp_path / "none.so").write_bytes(b"broken")
    with pytest.raises(EngineError, match="no shared library"):
        open_engine(open_artifact(path))


FORK = """
import os, sys
from edge.artifact import open_artifact
from runtimes import open_engine
from tests.runtimes.conformance import fresh, run, text
engine = open_engine(open_artifact(sys.argv[1]), threads=int(sys.argv[2]))
cache = engine.new_cache()
run(engine, cache, text(300))
expected = [fresh(engine, text(300, 1)).tobytes(), run(engine, cache.fork(300), [7]).tobytes()]
child = os.fork()
same = [fresh(engine, text(300, 1)).tobytes(), run(engine, cache.fork(300), [7]).tobytes()] == expected
if child == 0:
    os._exit(0 if same else 1)
sys.exit(not same or os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_forked_child_runs_on(kernels: None, artifact: Path, threads: int) -> None:
    program = [sys.executable, "-c", FORK, str(artifact), str(threads)]
    assert subprocess.run(program, timeout=60, check=False).returncode == 0


def interrupt() -> None:
    """SIGINT to this process, as the engine begins its call or from inside it."""
    threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()


@pytest.mark.parametrize("call", [1, 2, 3])
def test_interrupted_while_it_runs(kernels: None, artifact: Path, call: int) -> None:
    engine, tokens = opener(artifact)(), text(500)
    cache = engine.new_cache()
    run(engine, cache, tokens[:30])
    with pytest.raises(KeyboardInterrupt):
        engine.run([Step(tokens[30:], cache, [])], CancelAtCall(call, interrupt))
    assert cache.length == 30
    assert np.array_equal(run(engine, cache, tokens[30:60]), run_on(opener(artifact)(), tokens))


def run_on(engine: Any, tokens: list[int]) -> Any:
    cache = engine.new_cache()
    run(engine, cache, tokens[:30])
    return run(engine, cache, tokens[30:60])


def copied(artifact: Path, folder: Path) -> Path:
    """A copy that may be changed."""
    path = folder / "copy.edge"
    shutil.copytree(artifact, path)
    return path
