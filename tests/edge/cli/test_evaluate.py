"""`edge evaluate`: its table, its JSON, and what `edge inspect` shows afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.cli.fidelity import fidelity_rows
from tests.edge.cli.conftest import Ended

Run = Callable[..., Ended]
KEYS = {
    "tokens", "mean_kl", "median_kl", "p99_kl", "max_kl", "top1_agreement", "top5_agreement", "perplexity",
    "reference_perplexity", "bits_per_weight", "file_bytes",
}  # fmt: skip


def test_on_the_command_line(
    run_edge: Run, tiny_checkpoint: Path, tiny_artifact: Path, tmp_path: Path
) -> None:
    artifact, words = tmp_path / "tiny.edge", tmp_path / "words.txt"
    shutil.copytree(tiny_artifact, artifact)
    words.write_text("the quick brown fox jumps over the lazy dog, and the dog sleeps on\n" * 60)
    options = ("--reference", tiny_checkpoint, "--text", words, "--samples", "1")
    ended = run_edge("evaluate", artifact, *options)
    assert (ended.code, ended.err) == (0, "")
    names = [line.split("  ")[0] for line in ended.out.splitlines()]
    assert names == [
        "artifact", "reference", "engine", "tokens", "mean KL", "median, p99, max", "top-1 agreement",
        "top-5 agreement", "perplexity", "bits per weight", "size", "", f"Pictures: {artifact / 'fidelity.html'}",
    ]  # fmt: skip
    found = run_edge("evaluate", artifact, *options, "--json").json
    assert set(found) >= KEYS
    assert run_edge("evaluate", artifact, *options, "--quiet").out == ""
    shown = run_edge("inspect", artifact)
    assert f"fidelity         mean KL {found['mean_kl']:.4f}, top-1" in shown.out
    assert run_edge("inspect", artifact, "--json").json["fidelity"]["tokens"] == found["tokens"]
    assert f"({found['tokens']} tokens on engine {found['engine']})" in shown.out
    assert run_edge("evaluate", artifact).code == 2
    missing = run_edge("evaluate", artifact, "--reference", "/none")
    assert missing.code == 1
    assert "/none" in missing.err


@pytest.mark.parametrize(
    ("engine", "code", "message"),
    [
        ("tpu", 2, "'tpu' is not one of 'auto', 'cpu', 'onnxruntime', 'tensorrt', 'portable', 'cuda'"),
        ("tensorrt", 1, "has no variant for engine 'tensorrt' (it has: "),
    ],
)
def test_an_engine_that_there_is_not(
    engine: str, code: int, message: str, run_edge: Run, tiny_checkpoint: Path, tiny_artifact: Path
) -> None:
    options = ("--reference", tiny_checkpoint, "--no-write", "--engine", engine)
    ended = run_edge("evaluate", tiny_artifact, *options)
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err


def test_the_engine_that_ran_it_is_told(run_edge: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    artifact, words = tmp_path / "tiny.edge", tmp_path / "words.txt"
    words.write_text("the quick brown fox jumps over the lazy dog, and the dog sleeps on\n" * 60)
    assert run_edge("export", tiny_checkpoint, "-o", artifact, "--tensorrt").code == 0
    options = ("--reference", tiny_checkpoint, "--text", words, "--samples", "1")
    auto = run_edge("evaluate", artifact, *options)
    # Without a GPU; why is said.
    assert "\nengine            portable, not tensorrt (" in auto.out
    asked = run_edge("evaluate", artifact, *options, "--engine", "portable")
    assert "\nengine            portable\n" in asked.out
    assert "tokens on engine portable)" in run_edge("inspect", artifact).out


def test_a_report_of_an_older_version_names_no_engine() -> None:
    found = {
        "mean_kl": 0.5, "top1_agreement": 0.5, "perplexity": 2.0, "reference_perplexity": 1.0,
        "reference": "r", "tokens": 7,
    }  # fmt: skip
    assert fidelity_rows(found)[0][1].endswith("of r (7 tokens)")
