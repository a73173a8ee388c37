"""What tests of several rooms share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from edge.errors import EdgeError
from tests.tiny_llama import write_tiny_llama


@pytest.fixture(autouse=True)
def config_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's own boards lie: each test has a folder of its own."""
    home = tmp_path_factory.mktemp("config")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    folder = home / "edge" / "boards"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cache lies on the disk: each test has a folder of its own."""
    folder = tmp_path_factory.mktemp("cache") / "edgewise"
    monkeypatch.setenv("EDGEWISE_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True, scope="session")
def quick_exports() -> Iterator[None]:
    """Exports that are not told otherwise round weights and compare nothing: both have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("onnx"):
            patch.setattr("export.pipeline.DEFAULT_METHOD", "rtn")
            patch.setattr("export.pipeline.DEFAULT_FIDELITY", False)
        yield


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


@pytest.fixture(scope="session")
def kernels() -> None:
    """Skips where the library of kernels is not built; fails there if EDGEWISE_TEST_KERNELS says that it must be."""
    from runtimes.kernels.library import load_library

    try:
        load_library()
    except EdgeError as e:
        if "EDGEWISE_TEST_KERNELS" in os.environ:
            raise
        pytest.skip(str(e))
