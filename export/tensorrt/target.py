"""Targets: the GPUs that engines are built for, always named and never guessed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import boards
from boards.board import sm_version
from edge.errors import InvalidArgument, TargetRefused, UnknownBoard, UnknownTarget
from runtimes.tensorrt.header import TENSORRT, TENSORRT_RTX

# Compute capabilities that TensorRT for RTX builds for, on any machine, and those of Jetsons that have TensorRT 10.
RTX = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
JETSON = ("8.7", "11.0")
_SM = re.compile(r"sm[_-]?(\d{1,2})[._]?(\d)|(\d{1,2})\.(\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """A GPU by compute capability; `board` is the board it was named by, and `arch` that board's CPU, else empty."""

    name: str
    sm: str
    flavour: str
    board: str = ""
    arch: str = ""


def parse_targets(names: Iterable[str]) -> tuple[Target, ...]:
    """Targets by their names, such as sm89 or jetson-orin-nano-8gb, several in a text with commas between.

    Raises:
        InvalidArgument: none is named.
        UnknownTarget: no GPU or board is called so; the message has the nearest names.
        TargetRefused: the board has no NVIDIA GPU, or none that any TensorRT 10 builds for.
        ProfileError: the board is the user's, and its file is no profile.
    """
    wanted = [name.strip() for text in names for name in text.split(",")]
    if not any(wanted):
        raise InvalidArgument(
            "no target is named; name the GPU that is to run it, such as --target sm89, or the board: edge boards"
        )
    found = [_target(name) for name in wanted if name]
    return tuple({target.sm: target for target in reversed(found)}.values())[::-1]


def target_names() -> list[str]:
    """Every name that is a target: the compute capabilities, and the boards that have one of them."""
    able = [p.name for p in boards.profiles() if p.sm is not None and p.sm.value in (*RTX, *JETSON)]
    return [*map(_short, sorted((*RTX, *JETSON), key=sm_version)), *able]


def _target(name: str) -> Target:
    if match := _SM.fullmatch(name):
        digits = [group for group in match.groups() if group is not None]
        sm = ".".join(digits)
        if flavour := _flavour(sm):
            return Target(_short(sm), sm, flavour)
        near = sorted((*RTX, *JETSON), key=lambda known: _distance(known, sm))[:3]
        raise UnknownTarget(
            f"target {name!r}: no TensorRT that Edgewise knows builds for compute capability {sm}; "
            f"did you mean {' or '.join(map(_short, sorted(near, key=sm_version)))}? {_all()}"
        )
    try:
        profile = boards.profile(name)
    except UnknownBoard:
        raise UnknownTarget(_unknown(name)) from None
    if profile.sm is None:
        raise TargetRefused(
            f"target {name}: {profile.title} has no NVIDIA GPU that is known, and TensorRT runs on those alone; "
            f"export for it with: edge export SOURCE --board {name}"
        )
    sm = profile.sm.value
    flavour = _flavour(sm)
    if flavour is None:
        raise TargetRefused(
            f"target {name}: the GPU of {profile.title} is {_short(sm)}, which TensorRT 10 is not there for; "
            f"export for its CPU with: edge export SOURCE --board {name}"
        )
    return Target(name, sm, flavour, name, profile.arch)


def _flavour(sm: str) -> str | None:
    return TENSORRT_RTX if sm in RTX else TENSORRT if sm in JETSON else None


def _unknown(name: str) -> str:
    shown = repr(name if len(name) <= 60 else f"{name[:57]}...")
    names = target_names()
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    near = [known for known in names if known.startswith(f"{wanted}-")] or difflib.get_close_matches(
        wanted, names, n=3, cutoff=0.5
    )
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"there is no target {shown}; {hint}{_all()}"


def _all() -> str:
    return f"GPUs are {', '.join(map(_short, sorted((*RTX, *JETSON), key=sm_version)))}, boards: edge boards"


def _short(sm: str) -> str:
    return f"sm{sm.replace('.', '')}"


def _distance(known: str, sm: str) -> tuple[int, int]:
    (a, b), (c, d) = sm_version(known), sm_version(sm)
    return abs(a - c), abs(b - d)
