"""Running `edge` in this process, and on a terminal."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import boards
from boards.survey import detect
from edge.cli.main import main
from edge.conditions import recorder
from edge.conditions.recorder import Recorder
from tests.boards import sensors, trees
from tests.edge.cli.terminal import Terminal


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout, sure to be one JSON object and nothing else."""
        return json.loads(self.out)


@pytest.fixture
def run_edge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs the command line in this process: run_edge("inspect", path, stdin=b"...")."""

    def run(*args: str | Path, stdin: bytes = b"") -> Ended:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        code = main([os.fspath(arg) for arg in args])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def be_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[trees.Files], Path]:
    """Makes this machine the one that has these files; its root."""

    def be(files: trees.Files) -> Path:
        root = trees.plant(tmp_path / "root", files)
        monkeypatch.setattr(boards, "detect", partial(detect, root))
        monkeypatch.setattr(recorder, "Recorder", partial(Recorder, root))
        return root

    return be


@pytest.fixture
def on_an_orin(be_machine: Callable[[trees.Files], Path]) -> None:
    """A Jetson that tells all that it can."""
    be_machine({**trees.ORIN_NANO, **sensors.JETSON})


@pytest.fixture
def on_a_bare_machine(be_machine: Callable[[trees.Files], Path]) -> None:
    """One that tells nothing."""
    be_machine({})


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts `edge` on a terminal of its own, its state below tmp_path."""
    opened: list[Terminal] = []

    def start(*args: str | Path) -> Terminal:
        opened.append(Terminal([os.fspath(arg) for arg in args], state=tmp_path / "state"))
        return opened[-1]

    yield start
    for each in opened:
        each.close()
