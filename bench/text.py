"""The text that fidelity is measured on: the part of Python's own help that calibration does not see."""

from __future__ import annotations

from export.evaluate.text import HELD_OUT, held_out_text
from export.fit.text import help_text

__all__ = ["HELD_OUT", "held_out_text", "help_text"]
