"""Artifacts of the real SmolLM2, exported once a session. Not to be changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import models


@pytest.fixture(scope="session")
def smollm2_int4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _exported(tmp_path_factory, "int4")


@pytest.fixture(scope="session")
def smollm2_fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _exported(tmp_path_factory, "fp32")


def _exported(tmp_path_factory: pytest.TempPathFactory, weights: str) -> Path:
    from export import export

    out = tmp_path_factory.mktemp("smollm2") / f"smollm2-{weights}.edge"
    export(models.smollm2(), out, weights=weights)
    return out
