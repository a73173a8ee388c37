"""`edge chat` read by a program: plain lines in, answers out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import edge
from edge.cli.editor import history_path
from tests.edge.cli.conftest import Ended

Run = Callable[..., Ended]


def talk(artifact: Path, *messages: str) -> str:
    with edge.load(artifact) as model:
        chat = model.chat(max_tokens=5)
        return "".join("".join(chat.send(message)) + "\n" for message in messages)


@pytest.mark.parametrize(
    ("stdin", "messages"),
    [
        (b"hello\nand?\n", ["hello", "and?"]),
        (b"hello\r\n\n  \nand?", ["hello", "and?"]),
        (b"a\\\nb\n", ["a\nb"]),
        (b"a\\", ["a"]),
        ("¿Qué? 你好\n".encode(), ["¿Qué? 你好"]),
        (b"hello\n/exit\nnever said\n", ["hello"]),
        (b"", []),
    ],
)
def test_each_line_is_a_message(
    run_edge: Run, tiny_artifact: Path, stdin: bytes, messages: list[str]
) -> None:
    ended = run_edge("chat", tiny_artifact, "--max-tokens", "5", stdin=stdin)
    assert ended == Ended(0, talk(tiny_artifact, *messages), "")


def test_a_saved_talk_can_be_taken_up_again(run_edge: Run, tiny_artifact: Path, tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"
    ended = run_edge(
        "chat", tiny_artifact, "--max-tokens", "5", stdin=f"hello\n/save {saved}\nand?\n".encode()
    )
    assert ended.code == 0
    with edge.load(tiny_artifact) as model:
        chat = edge.Chat.from_json(model, json.loads(saved.read_text()), max_tokens=5)
        assert "".join(chat.send("and?")) == ended.out.splitlines()[1]


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (b"hello\ncaf\xe9\n", "stdin is not UTF-8: byte 0xe9 at offset 9"),
        (b"hello\n" + b"x" * 300 + b"\n", "the context holds 64"),
        (b"hello\n/save /no/such/folder/talk.json\n", "cannot be written"),
    ],
)
def test_an_error_ends_it_for_a_program(
    run_edge: Run, tiny_artifact: Path, stdin: bytes, message: str
) -> None:
    ended = run_edge("chat", tiny_artifact, "--max-tokens", "5", "--context", "64", stdin=stdin)
    assert ended.code == 1
    assert ended.out == talk(tiny_artifact, "hello")
    assert message in ended.err


def test_there_is_no_json(run_edge: Run, tiny_artifact: Path) -> None:
    assert run_edge("chat", tiny_artifact, "--json").code == 2


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"XDG_STATE_HOME": "/state"}, Path("/state/edgewise/history")),
        ({"XDG_STATE_HOME": "not/absolute"}, Path.home() / ".local/state/edgewise/history"),
        ({}, Path.home() / ".local/state/edgewise/history"),
    ],
)
def test_history_path(environment: dict[str, str], path: Path) -> None:
    assert history_path(environment) == path
