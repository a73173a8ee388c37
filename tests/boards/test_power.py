"""Power modes, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from boards.files import SystemFiles
from boards.power import power_modes
from tests.boards.trees import conf, plant

ORIN = conf("15W", "25W", "MAXN_SUPER", "7W", default=1)


@pytest.mark.parametrize(
    ("text", "state", "current", "said"),
    [
        (ORIN, "pmode:0000", "15W", "mode number 0, by its name"),
        (ORIN, "pmode:0002\n", "MAXN_SUPER", "mode number 2, by its name"),
        (ORIN, "pmode:0003 fmode:quiet", "7W", "mode number 3, by its name"),
        (ORIN, None, "25W", "the default; no other was chosen"),
        (ORIN, "", "25W", "the default; no other was chosen"),
        (conf("MAXN", default=7), None, None, "no mode was chosen, and there is no default"),
        (ORIN, "pmode:0009", None, "mode number 9"),
        ("< POWER_MODEL NAME=MAXN ID=3 >\n", "pmode:3", "MAXN", "mode number 3, by its name"),
        (
            "<POWER_MODEL ID=0 NAME=MAXN>\n  < PM_CONFIG DEFAULT=0 >",
            None,
            "MAXN",
            "the default; no other was chosen",
        ),
    ],
)
def test_the_current_mode(
    tmp_path: Path, text: str, state: str | None, current: str | None, said: str
) -> None:
    files = {"etc/nvpmodel.conf": text} | ({} if state is None else {"var/lib/nvpmodel/status": state})
    modes = power_modes(SystemFiles(plant(tmp_path, files)))
    assert (modes.current, modes.said) == (current, said)
    assert bool(modes.contradiction) == (said == "mode number 9")


def test_names_only(tmp_path: Path) -> None:
    """What is in comments, lacks a number or lacks a name is none."""
    text = ORIN + "< POWER_MODEL ID=x NAME=BAD >\n< POWER_MODEL ID=5 >\n< POWER_MODEL NAME=LOST >\n"
    modes = power_modes(SystemFiles(plant(tmp_path, {"etc/nvpmodel.conf": text})))
    assert modes.names == ("15W", "25W", "MAXN_SUPER", "7W")


def test_a_state_without_a_configuration(tmp_path: Path) -> None:
    modes = power_modes(SystemFiles(plant(tmp_path, {"var/lib/nvpmodel/status": "pmode:0000"})))
    assert (modes.names, modes.current) == ((), None)
