"""A checkpoint to evaluate against, and a text."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.evaluate.text import WINDOW
from tests.checkpoints import tiny_folder

WORDS = "the quick brown fox jumps over the lazy dog, and the dog sleeps on\n" * 60


@pytest.fixture(scope="package")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny qwen2 that transformers made. Not to be changed."""
    folder = tmp_path_factory.mktemp("evaluate") / "source"
    folder.mkdir()
    tiny_folder(folder, "qwen2", max_position_embeddings=WINDOW)
    return folder


@pytest.fixture
def words(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text(WORDS)
    return tmp_path / "words.txt"
