"""A job: what the process that builds is told, and what it answers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from runtimes.tensorrt.header import Shapes


@dataclass(frozen=True, kw_only=True)
class Job:
    """One engine. Paths are absolute; the plan is written to `out` behind an empty page."""

    flavour: str
    graph: str
    capacity: int
    profiles: tuple[Shapes, ...]
    sms: tuple[str, ...]
    out: str
    workspace: int
    """Bytes of the GPU's memory that the engine may use beside weights and KV."""
    memory: int | None
    """Bytes that the builder may take, None where nothing holds it back."""

    def dumps(self) -> str:
        """As a line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Job:
        """What `dumps` wrote."""
        data: dict[str, Any] = json.loads(text)
        shapes = tuple(Shapes(**shape) for shape in data["profiles"])
        return cls(**{**data, "profiles": shapes, "sms": tuple(data["sms"])})


@dataclass(frozen=True, kw_only=True)
class Built:
    """What was built; bytes."""

    version: str
    plan_bytes: int
    plan_sha256: str
    activation_bytes: int
    """See `EngineHeader.activation_bytes`."""
    peak_rss_bytes: int
    """Of the process that built."""
