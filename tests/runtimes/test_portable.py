"""The portable engine passes the conformance suite in both forms, and what is special to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.artifact import open_artifact
from edge.errors import Cancelled, EngineError, EngineTooOld, InvalidArgument, MemoryBudgetError
from edge.memory.needs import CHUNK
from export.graph import portable_form as exporters
from runtimes import Cache, Step
from runtimes.portable import PortableEngine
from runtimes.portable import engine as engine_module
from runtimes.portable.engine import chosen_form
from runtimes.static.device import Memory
from runtimes.static.form import FORMS as FORMS_HERE
from tests.logits import relative_error
from tests.runtimes.conformance import CancelAtCall, EngineConformance, OpenEngine, fresh, run, text
from tests.runtimes.tensorrt_artifact import HALF, needs_operators, write_artifact

FORMS = ("opset24", "opset21")


@pytest.fixture(scope="session")
def portable_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Artifacts for TensorRT, by what is special to them, each made once."""
    made: dict[str, Path] = {}
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "window": {"model_type": "mistral", "sliding_window": 24},
        "int8": {"kv": "int8"},
    }

    def make(name: str) -> Path:
        if name not in made:
            made[name] = write_artifact(tmp_path_factory.mktemp(name), **options[name])
        return made[name]

    return make


def opener(path: Path, form: str) -> Callable[..., PortableEngine]:
    needs_operators(form, path)
    artifact = open_artifact(path)

    def make(context: int | None = None, kv_budget: int | None = None) -> PortableEngine:
        return PortableEngine(artifact, 2, context or artifact.spec.context, kv_budget, form=form)

    return make


class TestInPlace(EngineConformance):
    tolerance = HALF
    artifact, form = "plain", "opset24"

    @pytest.fixture
    def open_engine(self, portable_artifacts: Callable[[str], Path]) -> OpenEngine:
        return opener(portable_artifacts(self.artifact), self.form)


class TestNewRows(TestInPlace):
    form = "opset21"


class TestWindowInPlace(TestInPlace):
    artifact = "window"


class TestWindowNewRows(TestNewRows):
    artifact = "window"


class TestCodes(TestNewRows):
    artifact = "int8"
    # What float16 rounds may fall to the next code.
    tolerance = 3e-2


@pytest.mark.parametrize("form", FORMS)
def test_a_step_of_many_sequences_is_all_or_nothing(
    portable_artifacts: Callable[[str], Path], form: str
) -> None:
    engine = opener(portable_artifacts("plain"), form)()
    a, b = engine.new_cache(), engine.new_cache()
    run(engine, a, text(20))
    with pytest.raises(Cancelled):
        engine.run([Step(text(30), a, []), Step(text(300), b, [])], CancelAtCall(3))
    assert (a.length, b.length) == (20, 0)
    tokens = text(20) + text(9, seed=2)
    assert relative_error(run(engine, a, tokens[20:]), fresh(engine, tokens)[20:]) < HALF


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("keep", "drop"), [(64, 64), (0, 128)])
def test_a_cache_whose_middle_goes(
    portable_artifacts: Callable[[str], Path], form: str, keep: int, drop: int
) -> None:
    """As if the tokens had never been, but for what later layers have read of them: so with one layer's cache."""
    engine = opener(portable_artifacts("plain"), form)()
    tokens, cache, never = text(300), engine.new_cache(), engine.new_cache()
    run(engine, cache, tokens)
    cache.slide(keep, drop)
    stays = tokens[:keep] + tokens[keep + drop :]
    run(engine, never, stays)
    assert cache.length == never.length == len(stays)
    ours, theirs = (first_layer(each, engine) for each in (cache, never))
    assert np.abs(ours - theirs).max() < 4e-3 * np.abs(theirs).max()


def first_layer(cache: Cache, engine: PortableEngine) -> NDArray[np.float32]:
    """Keys and values of layer 0, which depend on the tokens at their places alone."""
    spec = engine._interface.spec
    body = cache.export(0, cache.length).partition(b"\n")[2]
    count = 2 * spec.kv_heads * cache.length * spec.head_dim
    return np.frombuffer(body, np.float16)[:count].astype(np.float32)


@pytest.mark.parametrize("artifact", ["window", "int8"])
def test_keys_that_cannot_be_moved(portable_artifacts: Callable[[str], Path], artifact: str) -> None:
    engine = opener(portable_artifacts(artifact), "opset21")()
    cache = engine.new_cache()
    run(engine, cache, text(200))
    with pytest.raises(EngineError, match="cannot be moved"):
        cache.slide(64, 64)
    assert cache.length == 200


def test_kv_that_is_not_finite_is_not_adopted(portable_artifacts: Callable[[str], Path]) -> None:
    engine = opener(portable_artifacts("plain"), "opset24")()
    cache, other = engine.new_cache(), engine.new_cache()
    run(engine, cache, text(20))
    head, line, body = cache.export(0, 20).partition(b"\n")
    numbers = np.frombuffer(body, np.float16).copy()
    numbers[7] = np.inf
    with pytest.raises(InvalidArgument, match="not finite"):
        other.adopt(head + line + numbers.tobytes())
    assert (other.length, other.nbytes) == (0, 0)


@pytest.mark.parametrize("refused", [1, 3, 4])
def test_memory_that_the_system_refuses_leaves_the_cache_as_it_was(
    portable_artifacts: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    engine = opener(portable_artifacts("plain"), "opset24")()
    tokens, cache = text(300), engine.new_cache()
    run(engine, cache, tokens[:100])
    taken, before = engine.budget.taken, cache.export(0, 100)
    device = engine._opened()
    allocate, calls = device.allocate, iter(range(1, 100))

    def refuse(nbytes: int) -> Memory:
        if next(calls) == refused:
            raise MemoryBudgetError("the system refused")
        return allocate(nbytes)

    monkeypatch.setattr(device, "allocate", refuse)
    with pytest.raises(MemoryBudgetError, match="system refused"):
        cache.reserve(200)
    assert (cache.length, engine.budget.taken, cache.export(0, 100)) == (100, taken, before)
    assert relative_error(run(engine, cache, tokens[100:]), fresh(engine, tokens)[100:]) < HALF


@pytest.mark.parametrize("form", FORMS)
def test_rows_that_were_forgotten_are_not_seen(portable_artifacts: Callable[[str], Path], form: str) -> None:
    """Whatever other tokens have left in the cache, the logits are the same to the bit."""
    engine = opener(portable_artifacts("plain"), form)()
    used = engine.new_cache()
    run(engine, used, text(90, seed=3))
    used.truncate(0)
    assert np.array_equal(run(engine, used, text(40)), fresh(engine, text(40)))


def test_kv_of_another_type_than_the_artifacts(portable_artifacts: Callable[[str], Path]) -> None:
    plain, codes = (open_artifact(portable_artifacts(name)) for name in ("plain", "int8"))
    assert PortableEngine.kv_type(None, plain) == PortableEngine.kv_type("fp16", plain) == "float16"
    assert PortableEngine.kv_type(None, codes) == "int8"
    with pytest.raises(EngineError, match="keeps KV as fp16, not int8"):
        PortableEngine.kv_type("int8", plain)
    with pytest.raises(EngineError, match="fp16, int8, not fp32"):
        PortableEngine.kv_type("fp32", plain)


def test_an_onnxruntime_without_the_operators_runs_the_older_form(
    portable_artifacts: Callable[[str], Path],
) -> None:
    artifact = open_artifact(portable_artifacts("plain"))
    assert chosen_form(artifact, "1.32.0", None)[1].name == "opset24"
    assert chosen_form(artifact, "1.23.2", None)[1].name == "opset21"
    with pytest.raises(EngineTooOld, match=r"1\.23\.2 is older than 1\.31\.1"):
        chosen_form(artifact, "1.23.2", "opset24")
    with pytest.raises(EngineTooOld, match=r"1\.23\.2 is older than 1\.32\.0"):
        chosen_form(open_artifact(portable_artifacts("int8")), "1.23.2", None)
    with pytest.raises(EngineError, match="no variant in form opset24"):
        chosen_form(open_artifact(portable_artifacts("int8")), "1.32.0", "opset24")


def test_the_forms_are_the_exporters() -> None:
    assert [(f.name, f.in_place) for f in FORMS_HERE] == [(f.name, f.in_place) for f in exporters.FORMS]


def test_a_chunk_is_what_plans_count_with() -> None:
    assert engine_module.CHUNK == CHUNK
