"""On what a run went: what is the same from its start to its end."""

from __future__ import annotations

from typing import Any

import boards


def machine_report() -> dict[str, Any]:
    """The board and its power mode; null where the machine does not tell."""
    found = boards.detect()
    return {
        "board": found.board.name,
        "title": found.board.title,
        "known": found.known,
        "power_mode": found.power_mode,
        "container": found.container or None,
    }
