"""The fidelity report: beside numbers from transformers, what it refuses, and what is left when it is stopped."""

from __future__ import annotations

import json
import math
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge
from edge.artifact import open_artifact
from edge.errors import InvalidArgument, StorageError
from export import convert, export
from export.evaluate import evaluate
from export.evaluate.divergence import log_softmax
from export.evaluate.page import page
from export.evaluate.report import FidelityReport
from export.evaluate.text import WINDOW, held_out_text
from export.fit.text import SEEN, help_text
from export.folder import locked
from tests.checkpoints import tiny_folder
from tests.e2e.oracle import reference_logits
from tests.export.evaluate.conftest import WORDS
from tests.export.small import small_checkpoint

KEYS = {
    "tokens", "mean_kl", "median_kl", "p99_kl", "max_kl", "top1_agreement", "top5_agreement", "perplexity",
    "reference_perplexity", "bits_per_weight", "file_bytes",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluate") / "int4.edge"
    export(source, path, engine="onnxruntime")
    return path


@pytest.fixture
def artifact(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "int4.edge")
    return tmp_path / "int4.edge"


def test_beside_transformers(source: Path, artifact: Path, words: Path) -> None:
    """Every figure, worked out from the logits of transformers and of the artifact."""
    import transformers

    report = evaluate(artifact, source, text=words, samples=2)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, attn_implementation="eager").eval()
    kl, top1, top5, losses = [], [], [], []
    with edge.load(artifact) as ours:
        ids = ours.tokenizer.encode(WORDS, special=False)[: 2 * WINDOW]
        for window in (ids[:WINDOW], ids[WINDOW:]):
            p, q = (
                log_softmax(x) for x in (reference_logits(model, window, len(window)), ours.logits(window))
            )
            kl.append((np.exp(p) * (p - q)).sum(1))
            top1.append(p.argmax(1) == q.argmax(1))
            best = [np.argsort(-x, axis=1)[:, :5] for x in (p, q)]
            top5.append([len({*a} & {*b}) / 5 for a, b in zip(*map(np.ndarray.tolist, best), strict=True)])
            rows = np.arange(len(window) - 1)
            losses.append([-p[rows, window[1:]], -q[rows, window[1:]]])
    every = np.concatenate(kl)
    expected = {
        "tokens": 2 * WINDOW,
        "mean_kl": every.mean(),
        "median_kl": np.median(every),
        "p99_kl": np.quantile(every, 0.99),
        "max_kl": every.max(),
        "top1_agreement": np.concatenate(top1).mean(),
        "top5_agreement": np.concatenate(top5).mean(),
        "reference_perplexity": math.exp(np.concatenate([loss[0] for loss in losses]).mean()),
        "perplexity": math.exp(np.concatenate([loss[1] for loss in losses]).mean()),
    }
    found = report.to_json()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-3, abs=2e-3), key
    assert np.allclose(report.kl_by_position, np.mean(kl, axis=0), rtol=1e-2, atol=1e-4)
    assert set(found) >= KEYS
    low, high = report.confidence["mean_kl"]
    assert low < report.mean_kl < high


def test_an_exact_artifact_is_no_distance_away(source: Path, words: Path, tmp_path: Path) -> None:
    export(source, tmp_path / "fp32.edge", weights="fp32")
    report = evaluate(tmp_path / "fp32.edge", source, text=words, samples=1)
    assert abs(report.mean_kl) < 1e-6
    assert report.top1_agreement == 1
    assert report.perplexity_ratio == pytest.approx(1, abs=1e-4)
    assert report.tensors == []


def test_errors_of_layers(source: Path, artifact: Path, words: Path, tmp_path: Path) -> None:
    """Each about what rounding costs: 8 bits a sixteenth of 4."""
    export(source, tmp_path / "int8.edge", weights="int8", engine="onnxruntime")
    four, eight = (
        {t["name"]: t["error"] for t in evaluate(path, source, text=words, samples=1).tensors}
        for path in (artifact, tmp_path / "int8.edge")
    )
    assert len(four) == len(eight) == 4 * open_artifact(artifact).spec.layers
    for name, error in four.items():
        assert 0.01 < error < 0.5
        assert eight[name] < error / 4


def test_it_becomes_a_part_of_the_artifact(source: Path, artifact: Path, words: Path) -> None:
    for samples in (1, 2):
        report = evaluate(artifact, source, text=words, samples=samples)
        opened = open_artifact(artifact)
        opened.verify()
        assert {"fidelity.json", "fidelity.html"} <= {entry.path for entry in opened.manifest.files}
        assert json.loads((artifact / "fidelity.json").read_text())["tokens"] == report.tokens
    assert not [p for p in artifact.iterdir() if p.name.startswith(".")]


def test_nothing_is_written_if_so_asked(source: Path, artifact: Path, words: Path) -> None:
    before = sorted(artifact.rglob("*"))
    evaluate(artifact, source, text=words, samples=1, write=False)
    assert sorted(artifact.rglob("*")) == before


def test_our_own_text_has_answers_and_is_not_calibrated_on(source: Path, artifact: Path) -> None:
    report = evaluate(artifact, source, samples=1)
    assert report.text["source"] == "pydoc_data.topics"
    assert report.tokens > WINDOW
    assert held_out_text() not in help_text()[:SEEN]
    assert help_text()[:SEEN].find(held_out_text()[:500]) == -1


def test_at_the_end_of_an_export(source: Path, tmp_path: Path) -> None:
    report = export(source, tmp_path / "a.edge", engine="onnxruntime", fidelity=True)
    assert report.fidelity is not None
    assert report.fidelity["mean_kl"] > 0
    open_artifact(tmp_path / "a.edge").verify()
    held = sum(p.stat().st_size for p in (tmp_path / "a.edge").rglob("*") if p.is_file())
    assert held > report.file_bytes


def test_an_artifact_that_was_replaced_meanwhile(source: Path, artifact: Path, words: Path) -> None:
    def replaced(stage: str, done: int, total: int) -> None:
        if stage == "compare" and done == total:
            export(source, artifact, weights="int8", engine="onnxruntime", force=True)

    with pytest.raises(InvalidArgument, match="was replaced while it was evaluated; evaluate it again"):
        evaluate(artifact, source, text=words, samples=1, progress=replaced)
    open_artifact(artifact).verify()
    with locked(artifact), pytest.raises(StorageError, match="is being changed by another process"):
        evaluate(artifact, source, text=words, samples=1)


def test_a_conversion_leaves_the_report_behind(
    source: Path, artifact: Path, words: Path, tmp_path: Path
) -> None:
    evaluate(artifact, source, text=words, samples=1)
    convert(artifact, tmp_path / "cpu.edge", engine="cpu")
    assert not (tmp_path / "cpu.edge" / "fidelity.json").exists()
    open_artifact(tmp_path / "cpu.edge").verify()


@pytest.mark.parametrize("renamed", [0, 1, 2, 3, 4])
def test_a_disk_that_fills_up(
    renamed: int, source: Path, artifact: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file is the one too many, the artifact is whole."""
    evaluate(artifact, source, text=words, samples=1)
    replace, left = os.replace, [renamed]

    def full(a: Any, b: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        replace(a, b)

    monkeypatch.setattr(os, "replace", full)
    if renamed < 4:
        with pytest.raises(StorageError, match="the disk is full"):
            evaluate(artifact, source, text=words, samples=2)
    else:
        evaluate(artifact, source, text=words, samples=2)
    open_artifact(artifact).verify()
    assert not [p for p in artifact.iterdir() if p.name.startswith(".")]


def test_another_model(source: Path, artifact: Path, words: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    tiny_folder(other, "qwen2", hidden_size=96)
    with pytest.raises(
        InvalidArgument, match=r"is another model than .*: hidden_size is 96, not \d+; give the"
    ):
        evaluate(artifact, other, text=words)
    llama = small_checkpoint(tmp_path / "llama")
    with pytest.raises(InvalidArgument, match="architecture is llama, not qwen2"):
        evaluate(artifact, llama, text=words)
    same = tmp_path / "same"
    shutil.copytree(source, same)
    tokenizer = json.loads((same / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    a, b = list(vocabulary)[-2:]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    (same / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InvalidArgument, match=r"has another vocabulary than .*: 2 tokens differ"):
        evaluate(artifact, same, text=words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; give one of a thousand words or more"),
        (b" \n ", "is empty"),
        (b"too short", "tokens, less than one window of 512; give a longer one"),
        (bytes(range(256)), r"cannot be read \(it is not UTF-8\); give a UTF-8 text file"),
        (None, r"cannot be read \(No such file or directory\)"),
    ],
)
def test_a_text_that_is_none(
    content: bytes | None, message: str, source: Path, artifact: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(InvalidArgument, match=message):
        evaluate(artifact, source, text=tmp_path / "t.txt")
    with pytest.raises(InvalidArgument, match="samples is 0; give 1 or more"):
        evaluate(artifact, source, samples=0)


class Page(HTMLParser):
    """Whether every element ends, and what it refers to."""

    EMPTY = ("meta",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.told: list[str] = []
        self.elements: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.told += [value or "" for name, value in attrs if name in ("href", "src", "style")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_by_itself(source: Path, artifact: Path, words: Path) -> None:
    report = evaluate(artifact, source, text=words, samples=1)
    text = page(FidelityReport(**{
        **{k: getattr(report, k) for k in report.__dataclass_fields__},
        "artifact": "<script>alert(1)</script>",
        "size_curve": [(10**6, 0.5), (2 * 10**6, 0.01)],
    }))  # fmt: skip
    found = Page(text)
    assert found.open == []
    assert found.elements.count("svg") == 4
    assert {"script", "link", "img", "iframe"}.isdisjoint(found.elements)
    assert found.told == []
    assert "http" not in text.replace("http-equiv", "")
    assert "&lt;script&gt;" in text
