"""Published speeds beside predicted ceilings: the rule, the page, and the reckoning by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import boards
from bench import board_predictions
from bench.board_predictions import PAGE, main, page_text, predictions
from bench.published import FIGURES, FORMATS, SHAPES, Figure


def test_no_measured_figure_is_above_its_ceiling_or_it_is_explained() -> None:
    found = predictions()
    assert len(found) == len(FIGURES) >= 40
    for prediction in found:
        assert prediction.holds, prediction
        # One token a reading is what the ceiling is of: no excuse holds for those.
        if not prediction.figure.beyond:
            assert 0 < prediction.ratio <= 1


def test_the_page_is_what_the_command_writes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page_text(text) == text
    assert main(["--check"]) == 0


def test_a_page_that_is_not_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "boards.md"
    page.write_text("# Boards\n<!-- predictions -->\nold\n<!-- /predictions -->\nmore\n", encoding="utf-8")
    monkeypatch.setattr(board_predictions, "PAGE", page)
    assert main(["--check"]) == 1
    assert "old" in page.read_text(encoding="utf-8")
    assert main([]) == 0
    assert main(["--check"]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Boards\n")
    assert text.endswith("<!-- /predictions -->\nmore\n")
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="lacks <!-- predictions -->"):
        main([])


def test_a_figure_that_cannot_be_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = replace(FIGURES[0], measured=1000.0)
    monkeypatch.setattr(board_predictions, "FIGURES", (fast,))
    monkeypatch.setattr(board_predictions, "PAGE", tmp_path / "boards.md")
    (tmp_path / "boards.md").write_text("<!-- predictions -->\n<!-- /predictions -->\n")
    assert main([]) == 1
    assert "1000 measured is above the ceiling of 17.6" in capsys.readouterr().err


def test_bytes_by_hand() -> None:
    figure = Figure("jetson-orin-nx-16gb", "Qwen3 8B", "awq", "a test", 1.0, "a test")
    layer = 4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 12288
    expected = (36 * layer * 4.125 + 151936 * 4096 * 16) / 8
    [found] = [
        p for p in predictions() if replace(p.figure, stack="a test", measured=1.0, source="a test") == figure
    ]
    assert found.bytes_per_token == int(expected)
    assert found.ceiling == pytest.approx(102.4e9 / expected)


def test_everything_is_named_and_sourced() -> None:
    names = {profile.name for profile in boards.profiles()}
    for figure in FIGURES:
        assert figure.board in names
        assert figure.model in SHAPES
        assert figure.format in FORMATS
        assert figure.source
    assert {figure.model for figure in FIGURES} == set(SHAPES)
    assert {figure.format for figure in FIGURES} == set(FORMATS)
