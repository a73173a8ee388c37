"""The text that fidelity is measured on: Python's own help, which every Python carries."""

from __future__ import annotations

from pydoc_data.topics import topics

HELD_OUT = 300_000


def help_text() -> str:
    """All topics of Python's help, sorted by name. Releases of Python word some of them differently."""
    return "\n".join(topics[name] for name in sorted(topics))


def held_out_text() -> str:
    """The text from the first line behind character 300,000 on; what is before is left for calibration."""
    text = help_text()
    return text[text.index("\n", HELD_OUT) + 1 :]
