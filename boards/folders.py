"""The profiles there are: those that come with Edgewise, and the user's own."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from boards.board import Profile
from boards.schema import read_profiles
from edge.errors import ProfileError, UnknownBoard

OURS = "edgewise"
_FOLDER = Path(__file__).parent
# Files are the user's: a large one is no profile.
_MOST = 64 << 10


@dataclass(frozen=True)
class Catalogue:
    """The profiles by name, and the user's files that could not be read."""

    profiles: dict[str, Profile]
    faults: dict[str, ProfileError]
    """By the name of the file, without `.toml`."""


def user_folder() -> Path | None:
    """Where the user's own profiles are: `edge/boards` in the folder for configuration; None without a home."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):  # the XDG base directories: a relative path is to be ignored
        try:
            base = str(Path.home() / ".config")
        except RuntimeError:
            return None
    return Path(base, "edge", "boards")


def catalogue() -> Catalogue:
    """All profiles in the order of their names; a file of the user's replaces ours of that name."""
    found = dict(_ours())
    faults: dict[str, ProfileError] = {}
    for path in _user_files():
        try:
            found[path.stem] = read_profiles(_text(path), path, str(path))
        except ProfileError as e:
            faults[path.stem] = e
    profiles = sorted((profile for several in found.values() for profile in several), key=_order)
    return Catalogue({profile.name: profile for profile in profiles}, faults)


def profiles() -> tuple[Profile, ...]:
    """All profiles that can be read, in the order of their names."""
    return tuple(catalogue().profiles.values())


def profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        UnknownBoard: there is none; the message names those whose names are near.
        ProfileError: it is the user's, and its file is no profile.
    """
    there = catalogue()
    for stem, fault in there.faults.items():
        if name == stem or (name.startswith(f"{stem}-") and name not in there.profiles):
            raise fault
    if name in there.profiles:
        return there.profiles[name]
    raise UnknownBoard(f"there is no board {_shown(name)}; {_hint(name, list(there.profiles))}")


def _hint(name: str, names: list[str]) -> str:
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    sizes = [known for known in names if known.startswith(f"{wanted}-")]
    near = sizes or difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    if not near:
        return "all there are: edge boards"
    return f"did you mean {' or '.join(near)}? All there are: edge boards"


def _shown(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:57]}...")


def _order(profile: Profile) -> tuple[str, float]:
    """By name, and by memory where only that differs."""
    return profile.name.rsplit("-", 1)[0] if profile.name.endswith(
        "gb"
    ) else profile.name, profile.memory_gb.value


@cache
def _ours() -> dict[str, tuple[Profile, ...]]:
    paths = sorted(_FOLDER.glob("*.toml"))
    return {path.stem: read_profiles(_text(path), path, OURS) for path in paths}


def _user_files() -> list[Path]:
    folder = user_folder()
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".toml") if folder else []
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
    except OSError as e:
        raise ProfileError(f"{path}: it cannot be read: {e.strerror or e}") from None
    if len(data) > _MOST:
        raise ProfileError(f"{path}: it is larger than {_MOST >> 10} KiB, which no profile is; move it away")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise ProfileError(f"{path}: byte {e.start} is no UTF-8; write the file as UTF-8") from None
