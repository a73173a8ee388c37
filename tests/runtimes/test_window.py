"""A cache whose middle goes, as the policy window has it: beside an oracle, and beside what was never slid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edge.artifact import Rope, open_artifact
from edge.artifact.pages import KV_NAMES
from edge.cache.policy import SINK_TOKENS, Window
from edge.cache.session import Session
from edge.errors import EngineError, InvalidArgument
from export import export
from runtimes import Cache, CancelToken, Engine, Logits, open_engine
from runtimes.kernels.library import load_library
from tests.runtimes.conformance import fresh, run, text
from tests.runtimes.streaming_llama import StreamingLlama
from tests.tiny_llama import CONFIG, random_tensors, write_tiny_llama

CONTEXT = 256
SLIDES = [(64, 64), (64, 128), (0, 64), (128, 64)]


def opened(
    folder: Path, layers: int, weights: str, engine: str, kv: str | None = None
) -> tuple[Engine, StreamingLlama]:
    """A random llama on an engine, and the oracle of it."""
    source = folder / f"{layers}-layers"
    config = {**CONFIG, "num_hidden_layers": layers}
    if not source.exists():
        write_tiny_llama(source)
        (source / "config.json").write_text(json.dumps(config))
        save_file(
            random_tensors(config, np.random.default_rng(3)), source / "model.safetensors", {"format": "pt"}
        )
    out = folder / f"{layers}-{weights}-{engine}.edge"
    if not out.exists():
        export(source, out, weights=weights, engine=engine)
    oracle = StreamingLlama(config, load_file(source / "model.safetensors"))
    return open_engine(open_artifact(out), threads=2, engine=engine, kv=kv), oracle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("window")


def relative(a: Logits, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def floats(cache: Cache) -> Logits:
    """All keys and values of a cache that keeps them as float32."""
    data = cache.export(0, cache.length)
    return np.frombuffer(data, np.float32, offset=data.index(b"\n") + 1)


def test_a_session_is_exactly_the_oracle(folder: Path) -> None:
    """Prompt and answer several times as long as the context, positions counted in the cache."""
    engine, oracle = opened(folder, 2, "fp32", "onnxruntime")
    window = Window(CONTEXT)
    session = Session(engine, window=window)
    tokens = text(700)
    worst = 0.0
    for start, stop in [(0, 300), *((i, i + 1) for i in range(300, 700))]:
        logits = session.run(tokens[start:stop], CancelToken())
        for i in range(start, stop):
            if i % window.step == 0 or i >= 300:
                drop = window.dropped(oracle.length, min(window.step, stop - i))
                if drop:
                    oracle.slide(SINK_TOKENS, drop)
            expected = oracle.run(tokens[i])
        worst = max(worst, relative(logits, expected))
    assert session.cache is not None
    assert session.cache.length == oracle.length <= CONTEXT
    assert session.dropped == 700 - oracle.length > 400
    assert worst < 2e-5


@pytest.mark.parametrize("engine", ["onnxruntime", "cpu"])
@pytest.mark.parametrize("slide", SLIDES)
def test_keys_of_one_layer_are_those_of_their_new_positions(
    kernels: None, folder: Path, engine: str, slide: tuple[int, int]
) -> None:
    """There KV depends on the token and its position alone, so what stays is as if nothing else had been read."""
    opened_engine, _ = opened(folder, 1, "int4" if engine == "cpu" else "fp32", engine, "fp32")
    keep, drop = slide
    tokens, more = text(300), text(20, seed=8)
    cache = opened_engine.new_cache()
    run(opened_engine, cache, tokens)
    cache.slide(keep, drop)
    assert cache.length == 300 - drop
    stays, never = tokens[:keep] + tokens[keep + drop :], opened_engine.new_cache()
    run(opened_engine, never, stays)
    assert np.abs(floats(cache) - floats(never)).max() < 5e-6 * np.abs(floats(never)).max()
    # A key that is off by its last bit changes some 8-bit codes of activations.
    bound = 0.02 if engine == "cpu" else 1e-5
    assert relative(run(opened_engine, cache, more), run(opened_engine, never, more)) < bound


@pytest.mark.parametrize(("kv", "bound"), [("fp32", 0.03), ("fp16", 0.03), ("int8", 0.04), ("int4", 0.6)])
def test_turning_three_times_rounds_little_more_than_keeping(
    kernels: None, folder: Path, kv: str, bound: float
) -> None:
    assert kv in KV_NAMES
    engine, _ = opened(folder, 1, "int4", "cpu", kv)
    tokens, cache = text(300), engine.new_cache()
    run(engine, cache, tokens)
    for _ in range(3):
        cache.slide(64, 64)
    stays = tokens[:64] + tokens[256:]
    assert relative(run(engine, cache, tokens[:9]), fresh(engine, stays + tokens[:9])[len(stays) :]) < bound


def test_what_others_use_stays_as_it_is(kernels: None, folder: Path) -> None:
    engine, _ = opened(folder, 2, "int4", "cpu")
    tokens, cache = text(300), engine.new_cache()
    run(engine, cache, tokens)
    other, span = cache.fork(290), cache.share(128, 256)
    before, kept = other.export(0, 290), span.export()
    cache.slide(64, 64)
    assert other.export(0, 290) == before
    assert span.export() == kept
    taken = engine.budget.taken
    for each in (cache, other, span):
        each.close()
    assert 0 == engine.budget.taken < taken


@pytest.mark.parametrize("kv", KV_NAMES)
def test_every_instruction_set_turns_alike(kernels: None, folder: Path, kv: str) -> None:
    library = load_library()
    engine, _ = opened(folder, 2, "int4", "cpu", kv)
    trunk = engine.new_cache()
    run(engine, trunk, text(300))
    made = []
    try:
        for isa in library.isas:
            library.use(isa)
            branch = trunk.fork(300)
            branch.slide(64, 64)
            made.append(branch.export(0, 236))
    finally:
        library.use("auto")
    assert len(made) > 1
    assert all(each == made[0] for each in made)


@pytest.mark.parametrize("engine", ["onnxruntime", "cpu"])
@pytest.mark.parametrize(
    ("keep", "drop", "error", "message"),
    [
        (64, 32, InvalidArgument, r"tokens \[64, 96\) are not whole blocks of 64"),
        (32, 64, InvalidArgument, r"tokens \[0, 32\) are not whole blocks of 64"),
        (64, 0, InvalidArgument, r"tokens \[64, 64\) are not whole blocks of 64"),
        (64, 256, InvalidArgument, r"tokens \[64, 320\) are not among the 300 held"),
    ],
)
def test_what_cannot_go(
    kernels: None, folder: Path, engine: str, keep: int, drop: int, error: type[Exception], message: str
) -> None:
    opened_engine, _ = opened(folder, 2, "int4" if engine == "cpu" else "fp32", engine)
    cache = opened_engine.new_cache()
    run(opened_engine, cache, text(300))
    before = cache.export(0, 300)
    with pytest.raises(error, match=message):
        cache.slide(keep, drop)
    assert cache.export(0, 300) == before


@pytest.mark.parametrize(
    ("context", "changes", "error", "message"),
    [
        (200, {}, InvalidArgument, "context is 200; the policy window needs 256 tokens or more"),
        (
            512,
            {"rope": Rope(kind="dynamic", original_context=64)},
            EngineError,
            "has a dynamic rotary embedding",
        ),
        (512, {"windows": (16, 0)}, EngineError, "sliding windows of its own: its keys cannot be moved"),
    ],
)
def test_models_and_contexts_without_a_window(
    tiny_artifact: Path, context: int, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Window.of(context, replace(open_artifact(tiny_artifact).spec, **changes), ())
