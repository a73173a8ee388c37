"""Damaged quantized checkpoints: whatever changes, out comes a checkpoint or a CheckpointError."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.checkpoint.folder import SINGLE
from tests.export.checkpoint.packers import METHODS, compressed_tensors, configure
from tests.export.checkpoint.test_fuzz import cuts, damaged, flips, survives

fewer = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("method", METHODS)
@fewer
@given(changes=flips, cut=cuts, name=st.sampled_from(["config.json", SINGLE]))
def test_damaged(
    packed_folders: dict[str, Path], tmp_path: Path, method: str, changes: Any, cut: float | None, name: str
) -> None:
    shutil.copytree(packed_folders[method], tmp_path, dirs_exist_ok=True)
    data = (packed_folders[method] / name).read_bytes()
    region = len(data) if name == "config.json" else 8 + int.from_bytes(data[:8], "little")
    (tmp_path / name).write_bytes(damaged(data, region, changes, cut))
    survives(tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.parametrize("method", METHODS)
@fewer
@given(data=st.data(), value=VALUES)
def test_any_value_of_any_setting(
    packed_folders: dict[str, Path], tmp_path: Path, method: str, data: st.DataObject, value: Any
) -> None:
    shutil.copytree(packed_folders[method], tmp_path, dirs_exist_ok=True)
    changed = compressed_tensors() if method == "compressed-tensors" else dict(METHODS[method])
    group = changed.get("config_groups", {}).get("group_0", {})
    places = [place for place in (changed, group, group.get("weights", {})) if place]
    more = [
        "dynamic",
        "checkpoint_format",
        "sparsity_config",
        "actorder",
        "desc_act",
        "pack_dtype",
        "backend",
    ]
    place = data.draw(st.sampled_from(places))
    place[data.draw(st.sampled_from([*place, *more]))] = value
    configure(tmp_path, quantization_config=changed)
    survives(tmp_path)
