"""What tests of several engines share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact for TensorRT, of a random llama. Not to be changed: copy it first."""
    from tests.runtimes.tensorrt_artifact import write_artifact

    return write_artifact(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def exported_for_cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for engine cuda."""
    from tests.runtimes.tensorrt_artifact import write_artifact

    return write_artifact(tmp_path_factory.mktemp("exported_for_cuda"), engine="cuda")
