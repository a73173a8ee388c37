"""How a command ends: every error becomes a message and an exit code.

0  done                     130  Ctrl-C
1  an error, explained      141  whoever read the output has gone
2  a wrong command line     143  SIGTERM (129: SIGHUP)
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

import click

from edge.cli.output import print_json
from edge.errors import EdgeError

FAILED, SIGNALLED, PIPE_CLOSED = 1, 128, 141


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end: cleans up as Ctrl-C does, and no prompt swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def guarded(body: Callable[[], None], *, as_json: bool) -> int:
    """Run `body` and return the exit code; tells on stderr, and as JSON on stdout, what went wrong."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8
    try:
        return _explained(body, as_json)
    except BrokenPipeError:
        _drop_stdout()
        return PIPE_CLOSED
    except OSError:
        _drop_stdout()  # where the error was to be told as JSON; stderr has told it
        return FAILED


def _explained(body: Callable[[], None], as_json: bool) -> int:
    try:
        with _signals_raised():
            return _flushed(body)
    except BrokenPipeError:
        raise
    except (EdgeError, click.ClickException, click.Abort, KeyboardInterrupt, OSError, MemoryError) as e:
        kind, message, code = _told(e)
        if os.environ.get("EDGE_TRACEBACK") == "1":
            traceback.print_exc()
        _to_stderr(message if code > SIGNALLED else f"error: {message}")
        if isinstance(e, click.UsageError):
            _to_stderr(f"see: {e.ctx.command_path if e.ctx else 'edge'} --help")
        if as_json:
            _print_json_error(kind, message)
        sys.stdout.flush()
        return code
    except Exception as e:
        # Not raised on purpose: whoever mends it needs the traceback.
        if as_json:
            _print_json_error(type(e).__name__, str(e))
        raise


def _flushed(body: Callable[[], None]) -> int:
    code = 0
    try:
        body()
    except click.exceptions.Exit as e:
        code = e.exit_code
    sys.stdout.flush()
    return code


def _told(error: BaseException) -> tuple[str, str, int]:
    """Kind, message and exit code."""
    kind = type(error).__name__
    if isinstance(error, Terminated):
        return kind, f"ended by {error}", SIGNALLED + error.number
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return "Interrupted", "interrupted", SIGNALLED + signal.SIGINT
    if isinstance(error, click.UsageError):
        return "UsageError", error.format_message(), error.exit_code
    if isinstance(error, click.ClickException):
        return kind, error.format_message(), error.exit_code
    if isinstance(error, MemoryError):
        return kind, "out of memory; give a shorter --context, or take a smaller model", FAILED
    if isinstance(error, OSError) and not isinstance(error, EdgeError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return kind, f"{where}{error.strerror or error}", FAILED
    return kind, str(error), FAILED


def _print_json_error(kind: str, message: str) -> None:
    print_json({"error": {"type": kind, "message": message}})


def _to_stderr(line: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def _drop_stdout() -> None:
    """Let the interpreter's last flush go nowhere: it would fail once more, and say so."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


@contextlib.contextmanager
def _signals_raised() -> Iterator[None]:
    """Raise Terminated on SIGTERM and SIGHUP; one that is ignored stays so (nohup)."""
    numbers: list[int] = []
    if threading.current_thread() is threading.main_thread():
        numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(number)
