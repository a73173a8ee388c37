"""The functions of the script for Whisper in docs/optimum.md, as it stands there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[3] / "docs/optimum.md"


def functions() -> dict[str, Any]:
    """By name; what the script does with them is left out, since it wants a sound."""
    blocks = DOCS.read_text(encoding="utf-8").split("```python\n")[1:]
    (script,) = (block.split("```")[0] for block in blocks if "def transcribe" in block)
    found: dict[str, Any] = {}
    exec(script.split("\nwith edge.load")[0], found)
    return found
