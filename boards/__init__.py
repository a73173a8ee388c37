"""Boards: what is known of each, one TOML file a board, and which one this machine is.

import boards
boards.profile("jetson-orin-nano-8gb").bandwidth_gb_s.value  # 68.0
boards.detect().board.name
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boards.board import Figure, PowerMode, Profile
    from boards.conflicts import Conflict
    from boards.detection import Detection, Evidence
    from boards.folders import Catalogue, catalogue, profile, profiles, user_folder
    from boards.survey import detect
    from boards.tegra import RELEASES, Release

# Names are loaded when first used: who only reads /proc needs no profiles.
_HOME = {
    "Catalogue": "boards.folders",
    "Conflict": "boards.conflicts",
    "Detection": "boards.detection",
    "Evidence": "boards.detection",
    "Figure": "boards.board",
    "PowerMode": "boards.board",
    "Profile": "boards.board",
    "RELEASES": "boards.tegra",
    "Release": "boards.tegra",
    "catalogue": "boards.folders",
    "detect": "boards.survey",
    "profile": "boards.folders",
    "profiles": "boards.folders",
    "user_folder": "boards.folders",
}

__all__ = [
    "RELEASES",
    "Catalogue",
    "Conflict",
    "Detection",
    "Evidence",
    "Figure",
    "PowerMode",
    "Profile",
    "Release",
    "catalogue",
    "detect",
    "profile",
    "profiles",
    "user_folder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'boards' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value
