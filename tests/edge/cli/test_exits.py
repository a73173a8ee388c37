"""Errors → messages and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from edge.cli.exits import guarded
from edge.errors import ArtifactCorrupt, OutputExists


@pytest.fixture(autouse=True)
def default_handlers() -> Iterator[None]:
    """As a shell starts a program, whatever started pytest."""
    before = {n: signal.signal(n, signal.SIG_DFL) for n in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def raises(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


def kills(number: int) -> Callable[[], None]:
    def body() -> None:
        os.kill(os.getpid(), number)
        signal.pause()

    return body


@pytest.mark.parametrize(
    ("body", "code", "kind", "message"),
    [
        (raises(ArtifactCorrupt("a.bin is missing")), 1, "ArtifactCorrupt", "a.bin is missing"),
        (raises(OutputExists("x.edge exists")), 1, "OutputExists", "x.edge exists"),
        (raises(OSError(28, "No space left", "/tmp/x")), 1, "OSError", "/tmp/x: No space left"),
        (
            raises(PermissionError(13, "Permission denied", "/x")),
            1,
            "PermissionError",
            "/x: Permission denied",
        ),
        (
            raises(MemoryError()),
            1,
            "MemoryError",
            "out of memory; give a shorter --context, or take a smaller model",
        ),
        (raises(click.UsageError("no such option")), 2, "UsageError", "no such option"),
        (raises(click.ClickException("nonsense")), 1, "ClickException", "nonsense"),
        (raises(KeyboardInterrupt()), 130, "Interrupted", "interrupted"),
        (raises(click.Abort()), 130, "Interrupted", "interrupted"),
        (kills(signal.SIGINT), 130, "Interrupted", "interrupted"),
        (kills(signal.SIGTERM), 143, "Terminated", "ended by SIGTERM"),
        (kills(signal.SIGHUP), 129, "Terminated", "ended by SIGHUP"),
    ],
)
def test_an_error_is_told_and_becomes_an_exit_code(
    capsys: pytest.CaptureFixture[str], body: Callable[[], None], code: int, kind: str, message: str
) -> None:
    assert guarded(body, as_json=False) == code
    out, err = capsys.readouterr()
    assert out == ""
    first = err.splitlines()[0]
    assert first == (message if code >= 128 else f"error: {message}")
    assert "Traceback" not in err

    assert guarded(body, as_json=True) == code
    out, _ = capsys.readouterr()
    assert json.loads(out) == {"error": {"type": kind, "message": message}}


def test_success_and_exit(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: None, as_json=False) == 0
    assert guarded(raises(click.exceptions.Exit(7)), as_json=False) == 7
    assert capsys.readouterr() == ("", "")


def test_the_traceback_is_shown_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_TRACEBACK", "1")
    assert guarded(raises(ArtifactCorrupt("bad")), as_json=False) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: bad\n")


def test_what_was_not_raised_on_purpose_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        guarded(raises(ZeroDivisionError("by zero")), as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "error": {"type": "ZeroDivisionError", "message": "by zero"}
    }


def test_handlers_are_given_back_and_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    seen: list[object] = []
    guarded(lambda: seen.extend(map(signal.getsignal, (signal.SIGHUP, signal.SIGTERM))), as_json=False)
    assert seen[0] == signal.SIG_IGN
    assert seen[1] != signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def edge_process(*args: str, stdout: int, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli.main", *args]
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )


def test_a_terminal_that_cannot_show_a_character_is_no_error(tiny_artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "你.edge").symlink_to(tiny_artifact)
    done = edge_process(
        "verify", str(tmp_path / "你.edge"), stdout=subprocess.PIPE, PYTHONIOENCODING="latin-1"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "/?.edge: 5 files" in done.stdout


def test_a_reader_that_has_gone_is_no_error(tiny_artifact: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = edge_process("inspect", str(tiny_artifact), stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_an_error(tiny_artifact: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = edge_process("inspect", str(tiny_artifact), stdout=full)
    finally:
        os.close(full)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")
