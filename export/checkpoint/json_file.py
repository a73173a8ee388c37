"""JSON files of a checkpoint, bounded and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge.errors import CheckpointCorrupt, CheckpointNotFound

MAX_BYTES = 64 << 20


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointNotFound: there is no such file.
        CheckpointCorrupt: it is no JSON object, or over 64 MiB.
    """
    if not path.is_file():
        raise CheckpointNotFound(f"{path}: no such file; a checkpoint holds config.json and safetensors")
    again = "get the checkpoint again from its publisher"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointCorrupt(f"{path}: over {MAX_BYTES} bytes, too long for a {path.name}; {again}")
        data = path.read_bytes()
    except OSError as e:
        raise CheckpointCorrupt(f"{path}: cannot be read ({e.strerror}); {again}") from e
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise CheckpointCorrupt(f"{path}: not JSON ({e}); {again}") from e
    if not isinstance(value, dict):
        raise CheckpointCorrupt(f"{path}: holds a JSON {type(value).__name__}, not an object; {again}")
    return value
