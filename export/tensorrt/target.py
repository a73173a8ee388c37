"""Targets: the GPUs that engines are built for, always named and never guessed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import boards
from boards.board import sm_version
from boards.targets import JETSON, RTX, RTX_SERIES, gpu_names, short, target_names
from edge.errors import InvalidArgument, TargetRefused, UnknownBoard, UnknownTarget
from runtimes.tensorrt.header import TENSORRT, TENSORRT_RTX

_WORDS = re.compile(r"[a-z]+|\d+(?:gb)?")
_CARD = re.compile(r"rtx\W?(\d\d)\d0\b")
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


def _target(name: str) -> Target:
    if match := _SM.fullmatch(name):
        digits = [group for group in match.groups() if group is not None]
        sm = ".".join(digits)
        if flavour := _flavour(sm):
            return Target(short(sm), sm, flavour)
        near = sorted((*RTX, *JETSON), key=lambda known: _distance(known, sm))[:3]
        raise UnknownTarget(
            f"target {name!r}: no TensorRT that Edgewise knows builds for compute capability {sm}; "
            f"did you mean {' or '.join(map(short, sorted(near, key=sm_version)))}? {_all()}"
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
            f"target {name}: the GPU of {profile.title} is {short(sm)}, which TensorRT 10 is not there for; "
            f"export for its CPU with: edge export SOURCE --board {name}"
        )
    return Target(name, sm, flavour, name, profile.arch)


def _flavour(sm: str) -> str | None:
    return TENSORRT_RTX if sm in RTX else TENSORRT if sm in JETSON else None


def _unknown(name: str) -> str:
    shown = repr(name if len(name) <= 60 else f"{name[:57]}...")
    near = _nearest(name.lower())
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"there is no target {shown}; {hint}{_all()}"


def _nearest(name: str) -> list[str]:
    """Names with the same words and more, else the GPU of a card's series, else names of nearly the same letters."""
    names, words = list(target_names()), set(_WORDS.findall(name))
    if with_words := [known for known in names if words and words <= set(_WORDS.findall(known))]:
        return with_words[:3]
    if (series := _CARD.search(name)) and series[1] in RTX_SERIES:
        return [short(RTX_SERIES[series[1]])]
    return difflib.get_close_matches("-".join(_WORDS.findall(name)), names, n=3, cutoff=0.5)


def _all() -> str:
    series = ", ".join(f"{number}: {short(sm)}" for number, sm in RTX_SERIES.items())
    return f"GPUs are {', '.join(gpu_names())} (RTX {series}), boards: edge boards"


def _distance(known: str, sm: str) -> tuple[int, int]:
    (a, b), (c, d) = sm_version(known), sm_version(sm)
    return abs(a - c), abs(b - d)
