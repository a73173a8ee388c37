"""The TensorRT modules of this machine, and whether one of them can build for a target here."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import boards
from boards.targets import short
from edge.errors import TargetRefused, TensorRTMissing
from export.tensorrt.target import Target
from runtimes.tensorrt.header import TENSORRT_RTX
from runtimes.tensorrt.library import PACKAGES


def check_installed(flavour: str) -> None:
    """Raises TensorRTMissing, naming the package for the platform."""
    if find_spec(flavour) is None:
        raise TensorRTMissing(f"module {flavour} is not installed; {PACKAGES[flavour]}")


def module(flavour: str) -> Any:
    """The module of a flavour, loaded.

    Raises:
        TensorRTMissing: it is not installed or cannot be loaded; the message names the package for the platform.
    """
    check_installed(flavour)
    try:
        return import_module(flavour)
    except (ImportError, OSError, RuntimeError) as e:
        raise TensorRTMissing(f"module {flavour} cannot be loaded ({e}); {PACKAGES[flavour]}") from None


def built_elsewhere(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Those that are built on the board itself, where this machine is not that."""
    return tuple(target for target in targets if _elsewhere(target))


def check_here(target: Target, artifact: Path, context: str = "") -> None:
    """Raises TargetRefused where the target's engines cannot be built on this machine.

    The command to run there is for `artifact`, with the option `context`.
    """
    if why := _elsewhere(target):
        command = f"edge build {shlex.quote(artifact.name)} --target {target.name}{context}"
        raise TargetRefused(f"target {target.name}: {why}; copy {artifact} there and run: {command}")


def _elsewhere(target: Target) -> str:
    here = platform.machine()
    if target.flavour == TENSORRT_RTX:
        if target.arch in ("", "any", here):
            return ""
        return f"a plan runs on the platform it was built on, that board is {target.arch} and this machine {here}"
    detected = boards.detect()
    found = detected.board
    if found.unified.value and (found.sm.value == target.sm if found.sm else detected.release is not None):
        return ""
    what = f"its GPU is {short(found.sm.value)}" if found.sm else "it has no such GPU"
    return f"TensorRT builds for a Jetson on the Jetson itself, and this machine is {found.title}: {what}"
