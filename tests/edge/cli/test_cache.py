"""`edge cache`, and what `run` and `chat` leave for it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import edge
from edge.cache.folder import stored_blocks
from tests.edge.cli.conftest import Ended

Run = Callable[..., Ended]
LONG = "hello " * 60


@pytest.fixture
def filled(run_edge: Run, tiny_artifact: Path, cache_folder: Path) -> Path:
    """The cache's folder after a run and a named session, both two hours ago."""
    assert run_edge("run", tiny_artifact, "--prompt", LONG, "--max-tokens", "2", "-q").code == 0
    talk = ("chat", tiny_artifact, "--session", "shopping", "--max-tokens", "2")
    assert run_edge(*talk, stdin=LONG.encode()).code == 0
    then = time.time() - 2 * 3600
    for path in cache_folder.rglob("*.*"):
        os.utime(path, (then, then))
    return cache_folder


def test_a_list(run_edge: Run, filled: Path) -> None:
    ended = run_edge("cache", "ls")
    assert ended.code == 0
    assert re.sub(r"[0-9a-f]{32}", "F" * 32, ended.out) == (
        f"model  fingerprint                       blocks      size  last used\n"
        f"tiny   {'F' * 32}       5  166.4 kB  2 h ago\n"
        "\n"
        "session   model  messages  tokens  last used\n"
        "shopping  tiny          2     380  2 h ago\n"
    )
    assert ended.err == f"{filled}: 201.0 kB\n"
    report = run_edge("cache", "ls", "--json").json
    assert set(report) == {"folder", "bytes", "models", "sessions"}
    [model], [session] = report["models"], report["sessions"]
    assert report["bytes"] == model["nbytes"] + session["nbytes"]
    assert (model["name"], model["blocks"]) == ("tiny", 5)
    assert (session["name"], session["messages"], session["open"]) == ("shopping", 2, False)


def test_nothing(run_edge: Run, cache_folder: Path) -> None:
    assert run_edge("cache", "ls") == Ended(0, "", f"{cache_folder}: nothing\n")
    assert run_edge("cache", "verify").out == f"{cache_folder}: 0 files, 0 B, all as they were written\n"
    assert run_edge("cache", "rm", "--all").out == "removed 0 B\n"
    assert not cache_folder.exists()


def test_run_reads_what_was_read_before(run_edge: Run, tiny_artifact: Path, cache_folder: Path) -> None:
    options = ("run", tiny_artifact, "--prompt", LONG + "?", "--max-tokens", "4", "--json")
    first = run_edge(*options).json
    assert first["cached_tokens"] == 0
    again = run_edge(*options).json
    assert again["cached_tokens"] == 320
    assert again["token_ids"] == first["token_ids"]
    assert "320 of them read before)" in run_edge(*options[:-1]).err
    assert run_edge(*options, "--no-store").json["cached_tokens"] == 0


def test_no_store_leaves_nothing(run_edge: Run, tiny_artifact: Path, cache_folder: Path) -> None:
    assert run_edge("run", tiny_artifact, "--prompt", LONG, "--max-tokens", "2", "--no-store").code == 0
    assert run_edge("chat", tiny_artifact, "--max-tokens", "2", "--no-store", stdin=LONG.encode()).code == 0
    assert not cache_folder.exists()
    ended = run_edge("chat", tiny_artifact, "--session", "x", "--no-store", stdin=b"hello")
    assert (ended.code, ended.out) == (1, "")
    assert "session 'x' needs a folder to be kept in" in ended.err


def test_a_session_goes_on(run_edge: Run, tiny_artifact: Path) -> None:
    options = ("chat", tiny_artifact, "--session", "talk", "--max-tokens", "4")
    apart = run_edge(*options, stdin=b"hello\n").out + run_edge(*options, stdin=b"and?\n").out
    assert apart == run_edge("chat", tiny_artifact, "--max-tokens", "4", stdin=b"hello\nand?\n").out


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("rm",), 2, "name models or sessions to remove, or everything with --all"),
        (("rm", "tiny", "--all"), 2, "name models or sessions to remove"),
        (("rm", "big"), 1, "no model 'big' has KV on the disk; see: edge cache ls"),
        (("rm", "--session", "none"), 1, "there is no session 'none' in "),
        (("rm", "--session", "../x"), 1, "there is no session '../x' in "),
        (("ls", "--nope"), 2, "No such option"),
        (("nope",), 2, "No such command 'nope'"),
    ],
)
def test_a_wrong_command_line(
    run_edge: Run, filled: Path, args: tuple[str, ...], code: int, message: str
) -> None:
    before = sorted(filled.rglob("*"))
    ended = run_edge("cache", *args)
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert sorted(filled.rglob("*")) == before


def test_what_is_removed(run_edge: Run, filled: Path, tiny_artifact: Path) -> None:
    with edge.load(tiny_artifact, store="auto") as model, model.session("shopping"):
        ended = run_edge("cache", "rm", "--session", "shopping")
        assert ended.code == 1
        assert "session shopping is open in another process" in ended.err
        assert run_edge("cache", "ls", "--json").json["sessions"][0]["open"]
    assert run_edge("cache", "rm", "--session", "shopping").code == 0
    report = run_edge("cache", "ls", "--json").json
    assert (len(report["models"]), report["sessions"]) == (1, [])
    assert run_edge("cache", "rm", "tiny", "--json").json["models"] == 1
    assert run_edge("cache", "ls", "--json").json["bytes"] == 0


def test_bad_files_are_found_and_removed(run_edge: Run, filled: Path) -> None:
    assert run_edge("cache", "verify", "--json").json["ok"]
    flipped, cut = [stored.path for stored in stored_blocks(filled)][:2]
    data = bytearray(flipped.read_bytes())
    data[-1] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(b"")
    ended = run_edge("cache", "verify")
    assert ended.code == 1
    assert f"{flipped} is not what was written to it" in ended.err
    assert f"{cut} is not what was written to it" in ended.err
    assert "edge cache verify --remove" in ended.err
    assert run_edge("cache", "verify", "--remove").out.endswith("2 bad ones removed\n")
    assert run_edge("cache", "verify").code == 0
    assert not flipped.exists()
    assert not cut.exists()


def test_sessions_are_completed(filled: Path) -> None:
    from edge.cli.options import SessionName

    found = SessionName().shell_complete(None, None, "sh")  # type: ignore[arg-type]
    assert [item.value for item in found] == ["shopping"]
