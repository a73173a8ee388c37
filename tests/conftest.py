"""What tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_llama import write_tiny_llama


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with a random llama of 2 layers. Not to be changed."""
    return write_tiny_llama(tmp_path_factory.mktemp("checkpoint") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_artifact(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An INT4 artifact of `tiny_checkpoint` for stock ONNX Runtime. Not to be changed: copy it first."""
    from export import export

    out = tmp_path_factory.mktemp("artifact") / "tiny.edge"
    export(tiny_checkpoint, out, engine="onnxruntime")
    return out
