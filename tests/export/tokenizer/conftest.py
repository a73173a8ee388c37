from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from export.checkpoint.gguf_header import read_gguf_header
from export.checkpoint.text import TextFiles
from export.checkpoint.tokenizer import text_from_gguf
from tests import models

Metadata = dict[str, Any]


@cache
def _read(path: Path) -> tuple[Metadata, TextFiles]:
    metadata = read_gguf_header(path).metadata
    return metadata, text_from_gguf(metadata)


FILES: dict[str, Callable[[], Path]] = {
    "smollm2": models.smollm2,
    "qwen25": models.qwen25,
    "r1": models.r1_header,
}


@pytest.fixture(scope="session")
def real() -> Callable[[str], tuple[Metadata, TextFiles]]:
    """GGUF metadata of a real model by short name, and what Edgewise makes of it."""
    return lambda name: _read(FILES[name]())
