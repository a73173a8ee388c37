"""`edge chat`: talk with a model."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli.decoder import load_decoder
from edge.cli.editor import LineReader, Reader, TerminalReader, history_path
from edge.cli.exits import Terminated
from edge.cli.options import SessionName, artifact_argument, conversation_options, sampling_options
from edge.cli.output import remark, remark_passed_over
from edge.cli.stream import print_answer
from edge.errors import CapacityError, InvalidArgument, OutputExists, StorageError

if TYPE_CHECKING:
    from edge.chat import Chat

HELP = """\
/help        show this
/reset       forget the conversation
/save FILE   write the conversation to FILE as JSON
/exit        leave (as Ctrl-D does)

Enter sends; Alt-Enter, or a backslash before Enter, goes to a new line; pasted lines stay together.
Ctrl-C stops an answer or clears what was typed."""


@click.command("chat")
@artifact_argument
@click.option("--system", metavar="TEXT", help="Tell the model first who it is and how to answer.")
@click.option(
    "--session",
    type=SessionName(),
    metavar="NAME",
    help="Go on with the conversation NAME, or begin it; it is on the disk after every answer.",
)
@sampling_options
@conversation_options
def command(
    artifact: Path,
    system: str | None,
    session: str | None,
    loading: dict[str, Any],
    **sampling: Any,
) -> None:
    """Talk with a model. Earlier turns stay in its memory and are not read again.

    Type /help for what can be typed. What is typed is kept in a history file for the arrow keys
    (~/.local/state/edgewise/history), and what was read is kept for the next start (edge cache); with --no-store
    neither is.

    \b
    Example:
      edge chat smollm2.edge --system "You are a terse Unix expert."
      edge chat smollm2.edge --session shopping
    """

    interactive, private = sys.stdin.isatty(), loading["store"] is None
    reader: Reader = TerminalReader(None if private else history_path()) if interactive else LineReader()
    with load_decoder(artifact, loading) as model:
        remark_passed_over(model.engine)
        if session is None:
            chat = model.chat(system=system, **sampling)
        else:
            chat = model.session(session, system=system, **sampling)
        if interactive:
            remark(f"{model.artifact.manifest.name}: /help for help, Ctrl-D to leave")
            if chat.messages and session is not None:
                remark(resumed(session, chat))
        with closing(chat):
            _converse(chat, reader, interactive=interactive)


def _converse(chat: Chat, reader: Reader, *, interactive: bool) -> None:
    while True:
        try:
            text = reader.read()
        except Terminated:
            raise
        except KeyboardInterrupt:
            if not interactive:
                raise
            continue
        except EOFError:
            return
        if not text.strip():
            continue
        try:
            if text.startswith("/") and "\n" not in text:
                if not run_slash(chat, text):
                    return
            else:
                _answer(chat, text, interactive=interactive)
        except (InvalidArgument, CapacityError, StorageError) as e:
            # The conversation goes on, unless a program reads it.
            if not interactive:
                raise
            remark(f"error: {e}")


def resumed(name: str, chat: Chat) -> str:
    """A line about a session that goes on."""
    held = chat.cache.length if chat.cache is not None else 0
    return f"session {name} goes on after {len(chat.messages)} messages, {held} tokens of them in memory"


def _answer(chat: Chat, text: str, *, interactive: bool) -> None:
    try:
        print_answer(chat.send(text))
    except Terminated:
        raise
    except KeyboardInterrupt:
        if not interactive:
            raise
        remark("(stopped)")


def run_slash(chat: Chat, line: str) -> bool:
    """Do what a line beginning with / says; False to leave."""
    name, _, argument = line.strip().partition(" ")
    argument = argument.strip()
    if name == "/save":
        if not argument:
            remark("/save needs a file name: /save talk.json")
        else:
            path = Path(argument).expanduser()
            save(path, chat.to_json())
            remark(f"saved to {path}")
    elif argument:
        remark(f"{name} takes nothing after it; to send a message that begins with /, put a space before it")
    elif name == "/help":
        click.echo(HELP)
    elif name == "/reset":
        chat.reset()
        remark("(forgotten)")
    elif name == "/exit":
        return False
    else:
        remark(f"unknown command {name}; /help lists them. To send it as a message, put a space before it")
    return True


def save(path: Path, conversation: dict[str, Any]) -> None:
    """Write `conversation` to `path` as JSON, whole or not at all.

    Raises:
        OutputExists: there is a file already.
        StorageError: it cannot be written.
    """
    if path.exists():
        raise OutputExists(f"{path} is there already; name another file")
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with aside.open("x", encoding="utf-8") as file:
            json.dump(conversation, file, ensure_ascii=False, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as e:
        raise StorageError(f"{path} cannot be written ({e.strerror}); name another file") from None
    finally:
        aside.unlink(missing_ok=True)
