"""Checkpoints that many tests read and none changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints import state_arrays, tiny_folder, write_gguf
from tests.export.checkpoint.packers import METHODS, packed_folder


@dataclass(frozen=True, repr=False)
class Source:
    """A tiny llama as a folder and as a GGUF."""

    folder: Path
    gguf: Path
    state: dict[str, np.ndarray]
    config: dict[str, Any]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    base = tmp_path_factory.mktemp("llama")
    model = tiny_folder(base / "folder", "llama", attention_bias=True)
    config = json.loads((base / "folder" / "config.json").read_text())
    state = state_arrays(model)
    write_gguf(base / "model.gguf", state, config)
    return Source(base / "folder", base / "model.gguf", state, config)


@pytest.fixture
def folder(source: Source, tmp_path: Path) -> Path:
    """A copy of the folder, to spoil."""
    return Path(shutil.copytree(source.folder, tmp_path / "folder"))


@pytest.fixture
def edit_config(folder: Path) -> Callable[..., Path]:
    """Change keys of the copy's config.json; None deletes one."""

    def edit(**changes: Any) -> Path:
        path = folder / "config.json"
        config = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
        return folder

    return edit


@pytest.fixture(scope="session")
def packed_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny llama in each packing, by its quant_method."""
    base = tmp_path_factory.mktemp("packed")
    for method, packing in METHODS.items():
        packed_folder(base / method, packing)
    return {method: base / method for method in METHODS}
