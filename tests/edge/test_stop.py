from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import InvalidArgument
from edge.stop import StopStrings

letters = st.text("ab", max_size=12)


def run(stops: list[str], pieces: list[str]) -> tuple[list[str], bool]:
    strings = StopStrings(stops)
    out = []
    for piece in pieces:
        out.append(strings.push(piece))
        if strings.stopped:
            return out, True
    return [*out, strings.finish()], False


def cut(stops: list[str], text: str) -> str:
    """The text before the stop string that ends first, of several the longest."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@given(st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.lists(letters, max_size=8))
def test_the_text_is_cut_before_the_first_stop_string_however_it_came(
    stops: list[str], pieces: list[str]
) -> None:
    out, stopped = run(stops, pieces)
    text = "".join(pieces)
    assert "".join(out) == cut(stops, text)
    assert stopped == any(stop in text for stop in stops)
    assert not any(stop in "".join(out) for stop in stops)


@given(st.text("ab", min_size=1, max_size=5), st.lists(letters, max_size=8))
def test_one_stop_string_cuts_where_it_is_found(stop: str, pieces: list[str]) -> None:
    text = "".join(pieces)
    assert "".join(run([stop], pieces)[0]) == text.split(stop)[0]


@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3), st.lists(letters, max_size=8))
def test_nothing_is_held_that_could_not_become_a_stop_string(stops: list[str], pieces: list[str]) -> None:
    strings = StopStrings(stops)
    seen = shown = ""
    for piece in pieces:
        seen += piece
        shown += strings.push(piece)
        if strings.stopped:
            return
        held = seen[len(shown) :]
        assert any(stop.startswith(held) and stop != held for stop in stops)
        longer = [seen[i:] for i in range(len(shown))]
        assert not any(stop.startswith(end) for stop in stops for end in longer)


def test_holds_and_gives_up() -> None:
    assert run(["\nUser:"], ["hi\n", "Us", "ed", "\nUser", ":x"]) == (["hi", "", "\nUsed", "", ""], True)
    assert run(["abc"], ["xab"]) == (["x", "ab"], False)


@pytest.mark.parametrize("stop", ["", 3, None, b"x"])
def test_refuses_what_is_no_stop_string(stop: object) -> None:
    with pytest.raises(InvalidArgument, match=r"stop has .*; give texts of at least one character"):
        StopStrings(["fine", stop])  # type: ignore[list-item]
