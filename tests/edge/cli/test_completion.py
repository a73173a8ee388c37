"""`edge completion`, and what the shells are then told."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.cli.main import COMMANDS, main
from tests.edge.cli.conftest import Ended

Run = Callable[..., Ended]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_says_how_to_install_it(run_edge: Run, shell: str) -> None:
    ended = run_edge("completion", shell)
    assert ended.code == 0
    assert ended.out.startswith(f"# Install with: edge completion {shell} >")
    assert "_EDGE_COMPLETE" in ended.out
    report = run_edge("completion", shell, "--json").json
    assert ended.out == f"# Install with: {report['install']}\n{report['script']}"
    assert run_edge("completion", shell, "--quiet").out == report["script"]
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=ended.out, text=True, check=True)


def test_an_unknown_shell(run_edge: Run) -> None:
    ended = run_edge("completion", "tcsh")
    assert ended.code == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in ended.err


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("edge ", {name for name, _ in COMMANDS}),
        ("edge ch", {"chat"}),
        ("edge run --to", {"--top-k", "--top-p"}),
        ("edge export x --weights ", {"int4", "int8", "fp16", "fp32"}),
        ("edge boards ", {"show"}),
        ("edge boards show rtx-40", {"rtx-4060", "rtx-4070", "rtx-4090"}),
        ("edge plan x --board th", {"this"}),
        ("edge plan x --board rtx-50", {"rtx-5070", "rtx-5090"}),
        ("edge export x --board jetson-na", {"jetson-nano"}),
        ("edge run ", {"a.edge", "b.edge"}),
        ("edge run a", {"a.edge"}),
        ("edge verify ./b", {"./b.edge"}),
        ("edge inspect sub/", {"sub/c.edge"}),
    ],
)
def test_what_the_shell_is_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: str,
    completions: set[str],
) -> None:
    assert answers(monkeypatch, capsys, tmp_path, words) == {("plain", value) for value in completions}


@pytest.mark.parametrize("words", ["edge run no", "edge chat sub", "edge run missing/x"])
def test_where_there_is_no_artifact_the_shell_completes_folders(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, words: str
) -> None:
    assert answers(monkeypatch, capsys, tmp_path, words) == {("dir", words.split(" ")[-1])}


def answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, words: str
) -> set[tuple[str, ...]]:
    for name in ("a.edge", "b.edge", "notes", "sub/c.edge"):
        (folder / name).mkdir(parents=True)
    (folder / "file.edge").touch()
    monkeypatch.chdir(folder)
    for name, value in (
        ("_EDGE_COMPLETE", "bash_complete"),
        ("COMP_WORDS", words),
        ("COMP_CWORD", str(words.count(" "))),
    ):
        monkeypatch.setitem(os.environ, name, value)
    assert main([]) == 0
    return {tuple(line.split(",", 1)) for line in capsys.readouterr().out.splitlines()}
