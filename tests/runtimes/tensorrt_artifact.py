"""A tiny artifact for TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from export import export
from tests.checkpoints import tiny_folder

HALF = 4e-3
"""Of the largest logit: chunks of other sizes are rounded to float16 elsewhere. See docs/tensorrt.md."""


def write_artifact(folder: Path, family: str = "llama", kv: str | None = None, **config: Any) -> Path:
    """In an empty folder, with a context of 2048 tokens."""
    options = {"initializer_range": 0.05, "max_position_embeddings": 2048, **config}
    tiny_folder(folder / "checkpoint", family, **options)
    export(folder / "checkpoint", folder / "m.edge", engine="tensorrt", kv=kv)
    return folder / "m.edge"
