"""What a plan foresees of weights, beside what an export writes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.artifact import open_artifact
from edge.memory.weights import MIXED, WEIGHTS, Stored, engine_for, matrices, weight_bytes
from export import export
from export.checkpoint import read_spec
from export.fit.target import check_target
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


@given(
    small_configs(),
    st.sampled_from(["int4", "int8"]),
    st.sampled_from([32, 128]),
    st.booleans(),
    st.sampled_from(["cpu", "onnxruntime"]),
)
@settings(max_examples=25, deadline=None)
def test_and_what_a_token_reads_of_them(
    config: dict[str, Any], weights: str, block: int, zero_points: bool, engine: str
) -> None:
    stored = Stored(weights=weights, block=block, zero_points=zero_points, engine=engine)
    with tempfile.TemporaryDirectory() as name:
        checkpoint = small_checkpoint(Path(name) / "checkpoint", **config)
        options = {"weights": weights, "block": block, "zero_points": zero_points, "engine": engine}
        export(checkpoint, Path(name) / "m.edge", **options)
        manifest = open_artifact(Path(name) / "m.edge").manifest
    assert stored.total(manifest.spec) == manifest.weight_bytes
    assert stored.read(manifest.spec) == manifest.decode_bytes


def test_bits_over_all_matrices_are_the_exports_target(tmp_path: Path) -> None:
    spec = read_spec(small_checkpoint(tmp_path))
    weights = sum(rows * inputs for rows, inputs in matrices(spec))
    vectors = 4 * (spec.parameters - weights)
    target = check_target(spec, "cpu", 6.0, None, 0, 10**9)
    assert Stored(weights=MIXED, bits=6.0).total(spec) - vectors == pytest.approx(target, abs=weights // 1000)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_engine_is_the_exports(weights: str) -> None:
    assert engine_for(weights) == chosen_engine(None, Recipe(weights=weights))
