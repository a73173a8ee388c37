"""Engine files of an artifact: built from its graphs on the way, so that it is whole without them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

FOLDER = "tensorrt/engines"
"""Where in an artifact engine files are, in a folder for each target."""
SUFFIX = ".engine"
_NAME = re.compile(r"(sm\d{2,3}(?:-sm\d{2,3})*)/(\d{1,9})-[0-9a-f]{8}\.engine")


def is_engine(name: str) -> bool:
    """Whether a file of an artifact is an engine, by its name."""
    return name.startswith(f"{FOLDER}/") and name.endswith(SUFFIX)


def target_name(sm: str) -> str:
    """Compute capability 8.9 as engine files and `--target` have it, sm89."""
    return f"sm{sm.replace('.', '')}"


def engine_name(sms: Iterable[str], capacity: int, sha256: str) -> str:
    """The name of an engine for compute capabilities such as 8.9, with a cache of `capacity` tokens."""
    targets = "-".join(map(target_name, sms))
    return f"{FOLDER}/{targets}/{capacity}-{sha256[:8]}{SUFFIX}"


def told_by_name(name: str) -> tuple[tuple[str, ...], int]:
    """The targets of an engine, such as sm89, and its tokens, by its name; none and 0 where that tells nothing."""
    match = _NAME.fullmatch(name.removeprefix(f"{FOLDER}/"))
    return (tuple(match[1].split("-")), int(match[2])) if match else ((), 0)


def build_command(path: Path, *, context: bool = True) -> str:
    """The command that builds the engine file `path` of an artifact, with the context that it has or without."""
    artifact, _, name = path.as_posix().rpartition(f"{FOLDER}/")
    targets, capacity = told_by_name(name)
    tokens = f" --context {capacity}" if capacity and context else ""
    target = ",".join(targets) or "GPU-OR-BOARD"
    return f"edge build {shlex.quote(artifact.rstrip('/') or '.')} --target {target}{tokens}"


def build_again(path: Path) -> str:
    """What to do about the engine file `path`, with the command where it is in an artifact."""
    if f"{FOLDER}/" not in path.as_posix():
        return "build it again with edge build"
    return f"build it again with: {build_command(path)}"
