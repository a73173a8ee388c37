"""How numbers and tables look."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from edge.cli.output import count, print_json, print_table, seconds, size
from edge.cli.progress import ByteBar, PartBar


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (88_600_000, "88.6 MB"),
        (1.5e9, "1.5 GB"),
        (2e15, "2000.0 TB"),
    ],
)
def test_size(nbytes: float, text: str) -> None:
    assert size(nbytes) == text


@pytest.mark.parametrize(
    ("number", "text"), [(7, "7"), (49152, "49.2 k"), (134_515_008, "134.5 M"), (1.78e9, "1.8 B")]
)
def test_count(number: float, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0852, "85 ms"),
        (1.25, "1.2 s"),
        (0.9999, "1.0 s"),
        (99.99, "1 min 40 s"),
        (200, "3 min 20 s"),
        (179.9, "3 min 0 s"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([("part", "size"), ("mlp", "49.8 MB"), ("norms", "1 B"), ("rest",)], right=(1,))
    assert capsys.readouterr().out == "part      size\nmlp    49.8 MB\nnorms      1 B\nrest\n"


def test_json_is_ascii_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": "é 你 \ud800"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"text": "é 你 \ud800"}


def test_a_bar_is_silent_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with ByteBar("verify", 10, quiet=quiet) as bar:
            bar.add(5)
            bar.show("verify", 7, 10)
    assert capsys.readouterr() == ("", "")


def test_a_bar_shows_stage_bytes_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ByteBar("export", 0, quiet=False) as bar:
        bar.show("int4", 0, 4_000_000)
        bar.show("int4", 3_000_000, 4_000_000)
        bar.show("checksums", 0, 1_000_000)
        bar.show("checksums", 1_000_000, 1_000_000)
        last = str(bar._bar)
    assert "checksums: 100%" in last
    assert "1.00M/1.00M" in last
    assert "int4" in capsys.readouterr().err


def test_a_bar_of_parts_shows_stage_share_and_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with PartBar("export", quiet=False) as bar:
        bar.show("torch to ONNX", 3, 4)
        last = str(bar._bar)
    assert last.startswith("torch to ONNX:  75%|")
    assert last.endswith("| 00:00")


def test_a_terminal_that_tells_no_width_has_a_bar_too() -> None:
    code = (
        "from edge.cli.progress import PartBar\n"
        "with PartBar('build', quiet=False) as bar: bar.show('sm89, 4096 tokens', 5, 10)"
    )
    master, slave = pty.openpty()
    try:
        assert os.get_terminal_size(slave).columns == 0
        subprocess.run([sys.executable, "-c", code], stderr=slave, check=True)
        os.set_blocking(master, False)
        assert "sm89, 4096 tokens:  50%|" in os.read(master, 1 << 16).decode()
    finally:
        os.close(master)
        os.close(slave)
