"""What the program that runs in optimum's environment tells of its failures; none of optimum is needed for it."""

from __future__ import annotations

import errno
import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from export.optimum import worker


class SafetensorError(Exception):
    """Named as the one that the safetensors library raises."""


def caused(error: Exception, by: Exception) -> Exception:
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModuleNotFoundError("No module", name="optimum.exporters"), ("missing", "optimum")),
        (PackageNotFoundError("optimum-onnx"), ("missing", "optimum-onnx")),
        (ImportError("cannot import X", name="transformers"), ("unusable", "cannot import X")),
        (FileNotFoundError("no weights"), ("not found", "no weights")),
        (json.JSONDecodeError("No value", "", 0), ("corrupt", "No value: line 1 column 1 (char 0)")),
        (SafetensorError("cut off"), ("corrupt", "cut off")),
        (ValueError("no such task"), ("unsupported", "no such task")),
        (NotImplementedError(), ("unsupported", "NotImplementedError")),
        (IndexError("out\n  of range"), ("failed", "IndexError: out of range")),
        (caused(RuntimeError("in validation"), IndexError("5")), ("failed", "IndexError: 5")),
        (RuntimeError("of torch"), ("failed", "RuntimeError: of torch")),
    ],
)
def test_failures_are_told_by_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: tuple[str, str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(worker, "_export", fail)
    assert worker.main(["source", str(tmp_path / "out"), "auto", ""]) == 1
    assert json.loads((tmp_path / "out/error.json").read_text()) == {"kind": told[0], "message": told[1]}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> None:
        try:
            raise OSError(number, "full")
        except OSError:
            raise RuntimeError("in validation") from None

    monkeypatch.setattr(worker, "_export", fail)
    assert worker.main(["source", str(tmp_path / "out"), "auto", ""]) == errno.ENOSPC
    assert not (tmp_path / "out").exists()


def test_steps_are_counted_from_loading_on(tmp_path: Path) -> None:
    steps, seen = worker._Steps(tmp_path), []
    steps.expect(2)
    for _ in range(4):
        steps.next()
        seen.append((tmp_path / "steps.txt").read_text())
    assert seen == ["1/5", "2/5", "3/5", "4/5"]
