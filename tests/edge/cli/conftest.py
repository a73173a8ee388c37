"""Running `edge` in this process, and on a terminal."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.cli.main import main
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
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts `edge` on a terminal of its own, its state below tmp_path."""
    opened: list[Terminal] = []

    def start(*args: str | Path) -> Terminal:
        opened.append(Terminal([os.fspath(arg) for arg in args], state=tmp_path / "state"))
        return opened[-1]

    yield start
    for each in opened:
        each.close()
