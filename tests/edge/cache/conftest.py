from __future__ import annotations

from pathlib import Path

import pytest

from export import export


@pytest.fixture(scope="session")
def paged_artifact(kernels: None, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An INT4 artifact of the tiny llama for the cpu engine."""
    out = tmp_path_factory.mktemp("paged") / "tiny.edge"
    export(tiny_checkpoint, out)
    return out


@pytest.fixture(params=["cpu", "onnxruntime"])
def artifact(request: pytest.FixtureRequest) -> Path:
    """One with pages, and one without."""
    name = "paged_artifact" if request.param == "cpu" else "tiny_artifact"
    path: Path = request.getfixturevalue(name)
    return path
