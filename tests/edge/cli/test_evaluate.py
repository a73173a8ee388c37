"""`edge evaluate`: its table, its JSON, and what `edge inspect` shows afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

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
        "artifact", "reference", "tokens", "mean KL", "median, p99, max", "top-1 agreement", "top-5 agreement",
        "perplexity", "bits per weight", "size", "", f"Pictures: {artifact / 'fidelity.html'}",
    ]  # fmt: skip
    found = run_edge("evaluate", artifact, *options, "--json").json
    assert set(found) >= KEYS
    assert run_edge("evaluate", artifact, *options, "--quiet").out == ""
    shown = run_edge("inspect", artifact)
    assert f"fidelity         mean KL {found['mean_kl']:.4f}, top-1" in shown.out
    assert run_edge("inspect", artifact, "--json").json["fidelity"]["tokens"] == found["tokens"]
    assert run_edge("evaluate", artifact).code == 2
    missing = run_edge("evaluate", artifact, "--reference", "/none")
    assert missing.code == 1
    assert "/none" in missing.err
