"""Artifacts exported elsewhere give the logits they gave there, on whatever engine is installed here.

scripts/export_test_artifacts.py makes them; nothing of the exporter is needed to run them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edge.artifact import open_artifact
from edge.errors import EngineTooOld, KernelsMissing
from tests.logits import Logits, engine_logits, opened, relative_error

VARIABLE = "EDGEWISE_TEST_ARTIFACTS"
# Set where the library of kernels must be there.
KERNELS = "EDGEWISE_TEST_KERNELS"
SET = VARIABLE in os.environ
FOLDER = Path(os.environ.get(VARIABLE, "."))
NAMES = sorted(path.name.removesuffix(".edge") for path in FOLDER.glob("*.edge")) if SET else []

# Of the largest logit, by type of the activations: kernels of another version round in another order, which an
# activation of 8 bits may magnify to one of its steps.
BOUNDS = {"float32": 1e-5, "int8": 2e-2}

pytestmark = pytest.mark.skipif(
    not SET, reason=f"{VARIABLE} names no folder made by scripts/export_test_artifacts.py"
)


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    found: list[int] = np.load(FOLDER / "tokens.npy").tolist()
    return found


def bound(artifact: Path) -> float:
    return BOUNDS[open_artifact(artifact).manifest.variants[0].activation]


def logits(artifact: Path, tokens: list[int], prompt: int) -> Logits:
    """Skips where the artifact needs a newer engine, or the library of kernels, which is not built."""
    try:
        with opened(artifact, threads=2) as engine:
            return engine_logits(engine, tokens, prompt)
    except (EngineTooOld, KernelsMissing) as e:
        if isinstance(e, KernelsMissing) and KERNELS in os.environ:
            raise
        pytest.skip(str(e))


def test_there_are_artifacts() -> None:
    assert NAMES, f"{FOLDER} holds no artifacts"


@pytest.mark.parametrize("name", NAMES)
def test_every_file_arrived_whole(name: str) -> None:
    open_artifact(FOLDER / f"{name}.edge").verify()


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_the_engine_it_was_made_beside(name: str, tokens: list[int]) -> None:
    artifact = FOLDER / f"{name}.edge"
    expected = np.load(FOLDER / f"{name}.logits.npy")
    ours = logits(artifact, tokens, int(np.load(FOLDER / "prompt.npy")))
    assert relative_error(ours, expected) <= bound(artifact)


@pytest.mark.parametrize("name", NAMES)
def test_step_by_step_equals_prefill(name: str, tokens: list[int]) -> None:
    artifact = FOLDER / f"{name}.edge"
    expected = logits(artifact, tokens, len(tokens))
    assert relative_error(logits(artifact, tokens, 1), expected) <= bound(artifact)
