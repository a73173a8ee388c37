"""`edge chat` as a person meets it, on a terminal."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import edge
from tests.edge.cli.terminal import Terminal

Start = Callable[..., Terminal]
CTRL_C, CTRL_D, UP = "\x03", "\x04", "\x1b[A"
WELCOME = "/help for help, Ctrl-D to leave\n>"


def messages(path: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(path.read_text())["messages"]
    return found


def test_turns_follow_each_other(terminal: Start, tiny_artifact: Path) -> None:
    with edge.load(tiny_artifact) as model:
        chat = model.chat(system="be brief", max_tokens=12)
        first, second = "".join(chat.send("hello")), "".join(chat.send("and?"))
    screen = terminal("chat", tiny_artifact, "--system", "be brief", "--max-tokens", "12")
    screen.expect(WELCOME)
    screen.type("hello\r")
    screen.expect(first + "\n")
    screen.type("and?\r")
    screen.expect(second + "\n")
    screen.type("/exit\r")
    assert screen.wait() == 0
    assert screen.is_restored()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("a\\\rb\r", "a\nb"),
        ("a\x1b\rb\r", "a\nb"),
        ("\x1b[200~a\nb\nc\x1b[201~\r", "a\nb\nc"),
        (" /help\r", " /help"),
        ("a\\b\r", "a\\b"),
    ],
    ids=["backslash", "alt-enter", "paste", "space before slash", "backslash inside"],
)
def test_what_was_typed_is_what_is_said(
    terminal: Start, tiny_artifact: Path, tmp_path: Path, keys: str, message: str
) -> None:
    screen = terminal("chat", tiny_artifact, "--max-tokens", "3")
    screen.expect(WELCOME)
    screen.type(keys)
    screen.type(f"/save {tmp_path}/talk.json\r")
    screen.expect("saved to")
    assert messages(tmp_path / "talk.json")[0] == {"role": "user", "content": message}


def test_ctrl_c_stops_the_answer_and_not_the_program(
    terminal: Start, tiny_artifact: Path, tmp_path: Path
) -> None:
    with edge.load(tiny_artifact) as model:
        beginning = "".join(model.chat(max_tokens=20).send("hello"))
    screen = terminal("chat", tiny_artifact)
    screen.expect(WELCOME)
    screen.type("hello\r")
    screen.expect(beginning)
    screen.type(CTRL_C)
    screen.expect("(stopped)")
    screen.type(f"/save {tmp_path}/talk.json\r")
    screen.expect("saved to")
    [question, answer] = messages(tmp_path / "talk.json")
    assert question["content"] == "hello"
    assert answer["content"].startswith(beginning)
    screen.expect("\n>")
    screen.type(CTRL_D)
    assert screen.wait() == 0


def test_ctrl_c_clears_what_was_typed(terminal: Start, tiny_artifact: Path, tmp_path: Path) -> None:
    screen = terminal("chat", tiny_artifact, "--max-tokens", "3")
    screen.expect(WELCOME)
    screen.type("forget this" + CTRL_C)
    screen.expect("\n>")
    screen.type("hello\r")
    screen.type(f"/save {tmp_path}/talk.json\r")
    screen.expect("saved to")
    assert messages(tmp_path / "talk.json")[0]["content"] == "hello"


def test_slash_commands(terminal: Start, tiny_artifact: Path, tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"
    screen = terminal("chat", tiny_artifact, "--max-tokens", "3")
    screen.expect(WELCOME)
    for keys, expected in (
        ("/help\r", "/save FILE"),
        ("/nope\r", "unknown command /nope"),
        ("/reset now\r", "/reset takes nothing after it"),
        ("/save\r", "/save needs a file name"),
        ("hello\r", "\n"),
        ("/reset\r", "(forgotten)"),
        (f"/save {saved}\r", "saved to"),
        (f"/save {saved}\r", "is there already"),
        (f"/save {tmp_path}/no/such/folder.json\r", "cannot be written"),
    ):
        screen.type(keys)
        screen.expect(expected)
    assert messages(saved) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []


def test_history_is_kept_for_the_next_time_and_for_nobody_else(
    terminal: Start, tiny_artifact: Path, tmp_path: Path
) -> None:
    screen = terminal("chat", tiny_artifact, "--max-tokens", "3")
    screen.expect(WELCOME)
    screen.type("remember me\r")
    screen.expect("\n>")
    screen.type(CTRL_D)
    assert screen.wait() == 0
    assert (tmp_path / "state/edgewise/history").stat().st_mode & 0o777 == 0o600

    screen = terminal("chat", tiny_artifact, "--max-tokens", "3")
    screen.expect(WELCOME)
    screen.type(UP)
    screen.expect("remember me")


def test_a_conversation_that_is_full_says_so_and_goes_on(terminal: Start, tiny_artifact: Path) -> None:
    screen = terminal("chat", tiny_artifact, "--context", "64", "--max-tokens", "3")
    screen.expect(WELCOME)
    screen.type("x" * 90 + "\r")
    screen.expect("the context holds 64")
    screen.type("/help\r")
    screen.expect("/save FILE")


@pytest.mark.parametrize("keys", ["", "hello\r"], ids=["at the prompt", "during an answer"])
def test_sigterm_ends_it_and_leaves_the_terminal_as_it_was(
    terminal: Start, tiny_artifact: Path, keys: str
) -> None:
    with edge.load(tiny_artifact) as model:
        beginning = "".join(model.chat(max_tokens=20).send("hello"))
    screen = terminal("chat", tiny_artifact)
    screen.expect(WELCOME)
    screen.type(keys)
    if keys:
        screen.expect(beginning)
    screen.process.send_signal(signal.SIGTERM)
    screen.expect("ended by SIGTERM")
    assert screen.wait() == 128 + signal.SIGTERM
    assert screen.is_restored()
