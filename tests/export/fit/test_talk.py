"""Talk to calibrate on: in the model's own template, its own answers, and gone on with after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from edge.artifact import open_artifact
from export import export
from export.calibration import CalibrationText
from export.checkpoint import TextFiles, open_checkpoint
from export.evaluate.text import QUESTIONS as EVALUATED
from export.fit import EFFORTS, CalibrationTokens
from export.fit.effort import Effort
from export.fit.talk import QUESTIONS, own_windows
from export.talk import question_ids
from tests.checkpoints import tiny_tokenizer
from tests.export.small import small_checkpoint

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<me>"


def text(template: str | None) -> TextFiles:
    return TextFiles(tiny_tokenizer().to_str(), template, {"eos_token_id": [0]})


def test_a_question_is_put_in_the_template() -> None:
    tokenizer = tiny_tokenizer()
    ids = question_ids("why?", text(TEMPLATE), tokenizer)
    assert ids == tokenizer.encode("<user>why?<me>", add_special_tokens=False).ids


@pytest.mark.parametrize("template", [None, "{{ nothing.of.it }}", "{% if %}"])
def test_without_a_template_that_works(template: str | None) -> None:
    tokenizer = tiny_tokenizer()
    assert question_ids("why?", text(template), tokenizer) == tokenizer.encode("Question: why?\nAnswer:").ids


def test_calibration_and_evaluation_ask_other_questions() -> None:
    assert not set(QUESTIONS) & set(EVALUATED)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("talk") / "source", tie_word_embeddings=False)


def test_windows_are_what_the_model_says(source: Path, tmp_path: Path) -> None:
    with open_checkpoint(source) as checkpoint:
        windows = own_windows(checkpoint, 1, tmp_path, lambda stage, done, total: None)
        tokenizer = Tokenizer.from_str(checkpoint.text.tokenizer_json)
        asked = question_ids(QUESTIONS[0], checkpoint.text, tokenizer)
        assert windows.shape == (1, min(512, checkpoint.spec.context))
        assert windows[0, : len(asked)].tolist() == asked
        again = own_windows(checkpoint, 1, tmp_path, lambda stage, done, total: None)
    np.testing.assert_array_equal(windows, again)
    assert list(tmp_path.iterdir()) == []


def test_it_takes_the_place_of_some_text(source: Path) -> None:
    with open_checkpoint(source) as checkpoint:
        spec, tokenizer = checkpoint.spec, checkpoint.text.tokenizer_json
    window = min(512, spec.context)
    talk = np.full((1, window), 7)
    ours = CalibrationText.read(None)
    plain = CalibrationTokens.of(ours, tokenizer, spec, 4)
    mixed = plain.with_talk(talk)
    assert plain.windows.shape == mixed.windows.shape
    assert (mixed.windows[1] == 7).all()
    np.testing.assert_array_equal(mixed.windows[[0, 2, 3]], plain.windows[[0, 2, 3]])
    assert mixed.provenance["talk"] == window


def test_an_export_talks_first(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: what it said stays where an export was stopped."""
    monkeypatch.setitem(EFFORTS, "fast", Effort("fast", 4, 1, ("rtn",), 1))
    stages: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        stages.append(stage)
        if stage == "quantize" and done:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"method": "gptq", "effort": "fast", "engine": "onnxruntime"}
    with pytest.raises(KeyboardInterrupt):
        export(source, tmp_path / "out", **options, progress=progress)
    assert "talk" in stages
    stages.clear()
    export(source, tmp_path / "out", **options, progress=lambda stage, done, total: stages.append(stage))
    assert "talk" not in stages
    told = open_artifact(tmp_path / "out").manifest.provenance["fitting"]
    assert told["talk"] > 0
    words = tmp_path / "words.txt"
    words.write_text("a list of what was lost, and of what was found\n" * 200)
    export(source, tmp_path / "own", **options, calibration=words, progress=lambda s, d, t: stages.append(s))
    assert "talk" not in stages
