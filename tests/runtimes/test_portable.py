"""The portable engine passes the conformance suite in both forms, and what is special to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.artifact import open_artifact
from export import export
from runtimes.portable import PortableEngine
from tests.checkpoints import tiny_folder
from tests.runtimes.conformance import EngineConformance, OpenEngine

FORMS = ("opset24", "opset21")
# Of the largest logit: chunks of other sizes are rounded to float16 elsewhere. See docs/tensorrt.md.
HALF = 4e-3


@pytest.fixture(scope="session")
def portable_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Artifacts for TensorRT, by what is special to them, each made once."""
    made: dict[str, Path] = {}
    configs: dict[str, tuple[str, dict[str, Any]]] = {
        "plain": ("llama", {}),
        "window": ("mistral", {"sliding_window": 24}),
        "int8": ("llama", {}),
    }

    def make(name: str) -> Path:
        if name not in made:
            family, config = configs[name]
            folder = tmp_path_factory.mktemp(name)
            options: dict[str, Any] = {"kv": "int8"} if name == "int8" else {}
            tiny_folder(
                folder / "checkpoint",
                family,
                **{"initializer_range": 0.05, "max_position_embeddings": 2048, **config},
            )
            export(folder / "checkpoint", folder / f"{name}.edge", engine="tensorrt", **options)
            made[name] = folder / f"{name}.edge"
        return made[name]

    return make


def opener(path: Path, form: str) -> OpenEngine:
    artifact = open_artifact(path)

    def make(context: int | None = None, kv_budget: int | None = None) -> PortableEngine:
        return PortableEngine(artifact, 2, context or artifact.spec.context, kv_budget, form=form)

    return make


class TestInPlace(EngineConformance):
    tolerance = HALF
    artifact, form = "plain", "opset24"

    @pytest.fixture
    def open_engine(self, portable_artifacts: Callable[[str], Path]) -> OpenEngine:
        return opener(portable_artifacts(self.artifact), self.form)


class TestNewRows(TestInPlace):
    form = "opset21"


class TestWindowInPlace(TestInPlace):
    artifact = "window"


class TestWindowNewRows(TestNewRows):
    artifact = "window"


class TestCodes(TestNewRows):
    artifact = "int8"
    # What float16 rounds may fall to the next code.
    tolerance = 3e-2
