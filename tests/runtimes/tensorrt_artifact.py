"""A tiny artifact for GPUs; neither torch nor transformers is needed for it."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from edge.artifact import open_artifact
from edge.errors import EngineTooOld
from export import export
from runtimes.onnxruntime.session import check_version
from runtimes.portable.engine import oldest
from tests.tiny_llama import CONFIG, random_tensors, write_tiny_llama

HALF = 4e-3
"""Of the largest logit: chunks of other sizes are rounded to float16 elsewhere. See docs/tensorrt.md."""


def write_artifact(folder: Path, kv: str | None = None, engine: str = "tensorrt", **config: object) -> Path:
    """In an empty folder, with a context of 2048 tokens."""
    path = write_tiny_llama(folder / "checkpoint") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 2048, **config}))
    # Every token with an embedding.
    tensors = random_tensors(CONFIG, np.random.default_rng(0))
    save_file(tensors, path.with_name("model.safetensors"), metadata={"format": "pt"})
    export(folder / "checkpoint", folder / "m.edge", engine=engine, kv=kv)
    return folder / "m.edge"


def needs_operators(form: str, artifact: Path) -> None:
    """Skips where the installed ONNX Runtime is too old for the operators of a form."""
    try:
        check_version(version("onnxruntime"), oldest(form, open_artifact(artifact)))
    except EngineTooOld as e:
        pytest.skip(str(e))
