"""What models are compared on: a part of Python's help that calibration does not see, and turns of talk."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import InvalidArgument
from export.fit.text import WINDOW, help_text
from export.text_file import read_text

__all__ = ["ANSWER", "HELD_OUT", "QUESTIONS", "WINDOW", "EvaluationText", "held_out_text"]

HELD_OUT = 300_000
QUESTIONS = (
    "What is a river, and where does its water come from?",
    "Write a Python function that returns the largest of three numbers.",
    "A train leaves at nine and arrives at a quarter past eleven. How long did it take?",
)
"""The model answers each by itself, in up to ANSWER tokens."""
ANSWER = 96


def held_out_text() -> str:
    """Python's help from the first line behind character 300,000 on; what is before is left for calibration."""
    text = help_text()
    return text[text.index("\n", HELD_OUT) + 1 :]


@dataclass(frozen=True)
class EvaluationText:
    """A text to compare models on; `ours` has the model's own answers to QUESTIONS beside it."""

    name: str
    text: str
    ours: bool

    @classmethod
    def read(cls, path: str | Path | None) -> EvaluationText:
        """The UTF-8 file at `path`; None is our own.

        Raises:
            InvalidArgument: it cannot be read, is not UTF-8, or is empty.
        """
        if path is None:
            return cls("pydoc_data.topics", held_out_text(), True)
        text = read_text(path, "text")
        if not text.strip():
            raise InvalidArgument(f"the text {path} is empty; give one of a thousand words or more")
        return cls(Path(path).name, text, False)

    def to_json(self) -> dict[str, Any]:
        """What a report says of it."""
        about: dict[str, Any] = {"source": self.name}
        if self.ours:
            about |= {"from": HELD_OUT, "python": platform.python_version(), "answers": len(QUESTIONS)}
        return about
