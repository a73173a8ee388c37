from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edge.artifact
import runtimes
from edge import loading
from edge.defaults import sampling_defaults
from edge.errors import ArtifactCorrupt, InvalidArgument
from edge.loading import load
from edge.memory.probe import available_bytes
from edge.model import Model
from runtimes.site import HOST
from tests.edge.toy_engine import ToyEngine
from tests.edge.toy_model import toy_model

R1 = {"do_sample": True, "temperature": 0.6, "top_p": 0.95}


@pytest.mark.parametrize(
    ("generation", "defaults"),
    [
        ({}, {"temperature": 0.0}),
        (R1, {"temperature": 0.6, "top_p": 0.95}),
        ({**R1, "do_sample": False}, {"temperature": 0.0, "top_p": 0.95}),
        ({"temperature": 0.6}, {"temperature": 0.0}),
        ({"do_sample": True, "top_k": 20}, {"temperature": 1.0, "top_k": 20}),
        ({"do_sample": True, "temperature": None, "max_length": 20}, {"temperature": 1.0}),
        ({"repetition_penalty": 1.1}, {"temperature": 0.0, "repetition_penalty": 1.1}),
    ],
)
def test_defaults_come_from_the_generation_config(
    generation: dict[str, Any], defaults: dict[str, Any]
) -> None:
    assert sampling_defaults(generation) == defaults


def test_parameters_go_before_defaults() -> None:
    model = toy_model(generation={"eos_token_id": [2], **R1})
    greedy = [list(model.generate([5], temperature=0, max_tokens=5).tokens()) for _ in range(2)]
    assert greedy[0] == greedy[1] == list(toy_model().generate([5], max_tokens=5).tokens())
    sampled = [list(model.generate([5], max_tokens=20, seed=seed).tokens()) for seed in (1, 2)]
    assert sampled[0] != sampled[1]


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"eos_token_id": [2], "top_p": 2}, "generation.json: top_p is 2; give a number above 0"),
        ({"eos_token_id": [2], "do_sample": True, "temperature": "x"}, "generation.json: temperature is 'x'"),
        ({}, "generation.json: eos_token_id is None, not a list"),
        ({"eos_token_id": ["</s>"]}, r"generation.json: eos_token_id is \['</s>'\]"),
        ({"eos_token_id": [2], "special_tokens": "x"}, "generation.json: special_tokens is 'x'"),
    ],
)
def test_generation_defaults_that_cannot_be_used(generation: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactCorrupt, match=message):
        toy_model(generation=generation)


def test_a_model_without_end_tokens() -> None:
    model = toy_model(generation={"eos_token_id": []}, engine={"context": 12})
    assert len(list(model.generate([5]).tokens())) == 12


def test_special_tokens_reach_the_template() -> None:
    generation = {"eos_token_id": [2], "special_tokens": {"bos_token": "<|im_start|>", "eos_token": None}}
    model = toy_model(generation=generation, chat_template="{{ bos_token }}{{ messages[0].content }}")
    assert model.chat().send("a").prompt_ids == [1, *model.encode("a")]


def test_logits_of_every_token(model: Model) -> None:
    logits = model.logits([5, 6, 7])
    assert logits.shape == (3, model.spec.vocab_size)
    assert logits.dtype == np.float32
    assert (model.logits([5, 6])[1] == logits[1]).all()
    assert isinstance(model.engine, ToyEngine)
    assert model.engine.nbytes == 0
    for bad in ([], [-1], [10**9]):
        with pytest.raises(InvalidArgument):
            model.logits(bad)


def test_encode_and_decode(model: Model) -> None:
    assert model.decode(model.encode("Memory <|im_end|>first")) == "Memory first"


class Opened(ToyEngine):
    """What a faked `open_engine` gives."""


def test_load_opens_artifact_and_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = toy_model().artifact
    asked: list[Any] = []

    def open_engine(artifact: Any, **options: Any) -> Opened:
        asked.append(options)
        return Opened(vocab=402)

    monkeypatch.setattr(loading, "open_any", lambda path: artifact)
    monkeypatch.setattr(runtimes, "open_engine", open_engine)
    with load("x.edge", engine="toy", threads=2, context=9, kv="fp16") as model:
        assert model.load_s > 0
        [options] = asked
        granted = options.pop("admit")("cpu", "float16", HOST)
        assert options == {"engine": "toy", "threads": 2, "kv": "fp16"}
        assert granted.context == 9
        assert 0 < granted.kv_budget < available_bytes()
        engine = model.engine
    assert isinstance(engine, Opened)
    assert engine.closed


def test_load_closes_the_engine_where_the_artifact_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = toy_model().artifact
    artifact.generation.clear()
    opened = Opened(vocab=402)
    monkeypatch.setattr(loading, "open_any", lambda path: artifact)
    monkeypatch.setattr(runtimes, "open_engine", lambda artifact, **options: opened)
    with pytest.raises(ArtifactCorrupt):
        load("x.edge")
    assert opened.closed


def test_no_artifact(tmp_path: Any) -> None:
    with pytest.raises(edge.errors.ArtifactNotFound):
        load(tmp_path / "none.edge")
