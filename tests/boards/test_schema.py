"""Profiles' files that are wrong: the message names the key and the line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boards.folders import _text as folder_text
from boards.lines import line_of
from boards.schema import read_profiles
from edge.errors import ProfileError

GOOD = """\
title = "My board"
arch = "aarch64"
notes = ["a note"]

[match]
compatible = ["maker,board"]

[memory]
gb = { value = [4, 8], source = "data sheet" }
unified = { value = true, source = "data sheet" }
bandwidth_gb_s = { value = 34.1, source = "data sheet" }
reserve_mib = { value = 512, source = "assumed", confirmed = false }

[gpu]
sm = { value = "8.7", source = "data sheet" }
precisions = { value = ["fp16", "int8"], source = "data sheet" }
peak = { value = 40, unit = "TOPS INT8", source = "data sheet" }

[software]
engines = { value = ["cpu"], source = "tried" }

[[power_modes]]
name = "15W"
watts = { value = 15, source = "data sheet" }

[[power_modes]]
name = "MAXN"
"""
PATH = Path("/home/me/my-board.toml")


def read(text: str, path: Path = PATH) -> list[str]:
    return [profile.name for profile in read_profiles(text, path, "test")]


def test_a_good_one() -> None:
    assert read(GOOD) == ["my-board-4gb", "my-board-8gb"]
    assert read(GOOD.replace("[4, 8]", "8")) == ["my-board"]
    small, _ = read_profiles(GOOD, PATH, "test")
    assert (small.title, small.memory_gb.value) == ("My board 4GB", 4)
    assert not small.reserve_mib.confirmed
    assert [mode.name for mode in small.power_modes] == ["15W", "MAXN"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "My board"\n', "", "line 1: title is missing; see docs/boards.md for an example"),
        ('title = "My board"', "title = 3", "line 1: title is 3, expected a line of text"),
        (
            'title = "My board"',
            r'title = "a\u001b[2Jb"',
            "line 1: title is 'a\\x1b[2Jb', expected a line of text",
        ),
        (
            'title = "My board"',
            'titel = "My board"',
            "line 1: titel is unknown; known here: title, arch, notes",
        ),
        ('"aarch64"', '"arm"', "line 2: arch is 'arm', expected one of x86_64, aarch64, any"),
        ('["a note"]', '"a note"', "line 3: notes is 'a note', expected a list of texts"),
        ('["maker,board"]', "[1]", "line 6: match.compatible is [1], expected a list of texts"),
        ("[memory]", "[storage]", "line 8: storage is unknown; known here: title"),
        ("[4, 8]", "0", "line 9: memory.gb.value is 0, expected a list of numbers above 0"),
        (
            "[4, 8]",
            "[4, 4]",
            "line 9: memory.gb.value is [4, 4], expected a list of numbers above 0, each once",
        ),
        (
            '{ value = [4, 8], source = "data sheet" }',
            "8",
            "line 9: memory.gb is 8, expected a figure such as",
        ),
        ("value = true", 'value = "yes"', "line 10: memory.unified.value is 'yes', expected true or false"),
        (
            ', source = "data sheet" }\nreserve',
            " }\nreserve",
            "line 11: memory.bandwidth_gb_s.source is missing",
        ),
        ("34.1", "inf", "line 11: memory.bandwidth_gb_s.value is inf, expected a number above 0"),
        ("34.1", "true", "line 11: memory.bandwidth_gb_s.value is True, expected a number above 0"),
        (
            "confirmed = false",
            "confirmed = 0",
            "line 12: memory.reserve_mib.confirmed is 0, expected true or false",
        ),
        (
            "confirmed = false",
            "sure = false",
            "line 12: memory.reserve_mib.sure is an unknown key; a figure has value",
        ),
        ('"8.7"', "8.7", "line 15: gpu.sm.value is 8.7, expected a compute capability"),
        ('"fp16", "int8"', '"fp17"', "line 16: gpu.precisions.value is ['fp17'], expected a list of fp16"),
        (
            '"fp16", "int8"',
            '"int8", "fp8"',
            "line 16: gpu.precisions is 'fp8', expected only what a GPU of SM 8.7",
        ),
        ('unit = "TOPS INT8", ', "", "line 17: gpu.peak.unit is missing; say what is counted"),
        (
            'engines = { value = ["cpu"]',
            'engines = { value = ["npu"]',
            "line 20: software.engines.value is ['npu']",
        ),
        ('engines = { value = ["cpu"], source = "tried" }\n', "", "line 19: software.engines is missing"),
        ("[software]\n", "", "line 19: gpu.engines is unknown"),
        ("watts = { value = 15", "watts = { value = -1", "line 24: power_modes[0].watts.value is -1"),
        ('name = "MAXN"', "", "line 26: power_modes[1].name is missing"),
        ('name = "MAXN"', 'name = "MAXN"\nid = 0', "line 28: power_modes[1].id is unknown; known here: name"),
        ('[[power_modes]]\nname = "15W"', '[power_modes.a]\nname = "15W"', "it is no TOML"),
        ("[match]", "[match", "it is no TOML: "),
        ("arch", "title", "it is no TOML: "),
    ],
)
def test_what_is_wrong_and_where(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ProfileError) as refused:
        read(GOOD.replace(old, new, 1))
    assert str(refused.value).startswith(str(PATH))
    assert message in str(refused.value)


def test_power_modes_that_are_no_list() -> None:
    text = GOOD[: GOOD.index("[[power_modes]]")] + '[power_modes]\nname = "15W"\n'
    with pytest.raises(
        ProfileError, match=r"line 22: power_modes is .*, expected tables that begin with \[\["
    ):
        read(text)


@pytest.mark.parametrize("name", ["My Board", "-x", "a" * 61, "ä"])
def test_a_file_whose_name_is_no_boards(name: str) -> None:
    with pytest.raises(ProfileError, match="the file's name is the board's"):
        read(GOOD, Path(f"/home/me/{name}.toml"))


@pytest.mark.parametrize("text", ["", "x = " + "[" * 5000, "a.b.c.d = 1", "\0", "[memory]\n[memory]"])
def test_no_profile_at_all(text: str) -> None:
    with pytest.raises(ProfileError):
        read(text)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_read(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD)))
    stop = data.draw(st.integers(start, min(len(GOOD), start + 40)))
    text = GOOD[:start] + data.draw(st.text(max_size=12)) + GOOD[stop:]
    try:
        assert read(text)
    except ProfileError as e:
        assert str(e).startswith(str(PATH))  # noqa: PT017


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"title = '\xff'", "byte 9 is no UTF-8"), (b"#" * 70000, "larger than 64 KiB")],
)
def test_bytes_that_are_no_profile(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "board.toml"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=message):
        folder_text(path)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 1),
        (("memory",), 8),
        (("memory", "bandwidth_gb_s"), 11),
        (("memory", "bandwidth_gb_s", "value"), 11),
        (("memory", "none"), 8),
        (("power_modes",), 22),
        (("power_modes", 0), 22),
        (("power_modes", 1, "name"), 27),
        (("nowhere", "at", "all"), 1),
        ((), 1),
    ],
)
def test_lines(path: tuple[str | int, ...], line: int) -> None:
    assert line_of(GOOD, path) == line


def test_lines_of_other_spellings() -> None:
    text = '"memory".gb.value = 8\n# memory.unified = 1\n[ memory . unified ]\nvalue = true\n[[a.b]]\n[[a.b]]\nc = 1\n'
    assert line_of(text, ("memory", "gb", "value")) == 1
    assert line_of(text, ("memory", "unified", "value")) == 4
    assert line_of(text, ("a", "b", 1, "c")) == 7
