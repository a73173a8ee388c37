"""Edgewise: quantized distilled language models, offline, on the board in front of you.

import edge
with edge.load("smollm2.edge") as model:
    for piece in model.generate("The capital of France is", max_tokens=16):
        print(piece, end="", flush=True)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge.version import VERSION as __version__  # noqa: N811

if TYPE_CHECKING:
    from edge.artifact import Artifact, ModelSpec, open_artifact
    from edge.chat import Chat
    from edge.errors import EdgeError
    from edge.generate import Generation
    from edge.graphs import Graphs
    from edge.loading import load
    from edge.model import Model

# Names are loaded when first used: `runtimes` and `export` import edge.artifact without the rest.
_HOME = {
    "Artifact": "edge.artifact",
    "Chat": "edge.chat",
    "EdgeError": "edge.errors",
    "Generation": "edge.generate",
    "Graphs": "edge.graphs",
    "Model": "edge.model",
    "ModelSpec": "edge.artifact",
    "load": "edge.loading",
    "open_artifact": "edge.artifact",
}

__all__ = [
    "Artifact",
    "Chat",
    "EdgeError",
    "Generation",
    "Graphs",
    "Model",
    "ModelSpec",
    "__version__",
    "load",
    "open_artifact",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edge' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
