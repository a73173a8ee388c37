"""What a plan foresees of weights, beside what an export writes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.artifact import open_artifact
from edge.memory.weights import WEIGHTS, engine_for, weight_bytes
from export import export
from export.checkpoint import read_spec
from export.quantize import Recipe
from export.variant import chosen_engine
from tests.export.small import small_checkpoint, small_configs


@given(small_configs(), st.sampled_from(WEIGHTS), st.sampled_from([32, 64, 128]))
@settings(max_examples=25, deadline=None)
def test_the_config_alone_tells_the_bytes(config: dict[str, Any], weights: str, block: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        checkpoint = small_checkpoint(Path(name) / "checkpoint", **config)
        export(checkpoint, Path(name) / "m.edge", weights=weights, block=block)
        manifest = open_artifact(Path(name) / "m.edge").manifest
        spec = read_spec(checkpoint / "config.json")
        assert spec == manifest.spec
        assert weight_bytes(spec, weights, block) == manifest.weight_bytes


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_engine_is_the_exports(weights: str) -> None:
    assert engine_for(weights) == chosen_engine(None, Recipe(weights=weights))
