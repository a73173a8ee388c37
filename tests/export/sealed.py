"""Artifacts changed on purpose, their manifest true again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.artifact import open_artifact
from export.folder import list_files


def sealed(artifact: Path, **changes: Any) -> Path:
    """The manifest written anew for files that were changed, with `changes` of its own."""
    manifest = open_artifact(artifact, check_files=False).manifest
    (artifact / "edge.json").unlink()
    files = list_files(artifact, lambda nbytes: None)
    (artifact / "edge.json").write_text(replace(manifest, files=files, **changes).dumps())
    return artifact
