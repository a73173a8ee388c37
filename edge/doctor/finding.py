"""What was found out about one matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One matter."""

    name: str
    state: State
    """`problem`: no artifact can be loaded and asked here because of it; `note`: worth knowing, all works."""
    text: str
    next: str = ""
    """What to do about it; empty where nothing need be done."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For programs: sizes in bytes, degrees Celsius, kHz."""


def because_and_next(message: str) -> tuple[str, str]:
    """A message of ours as (what is the matter, what to do): the first `;` parts them."""
    because, _, step = message.partition("; ")
    return because, step
