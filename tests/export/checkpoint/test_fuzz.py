"""Damaged checkpoints: whatever changes, out comes a checkpoint or a CheckpointError, in little memory."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import CheckpointError
from export.checkpoint import open_checkpoint
from export.checkpoint.folder import SINGLE
from export.checkpoint.gguf_header import read_gguf_header
from tests.export.checkpoint.conftest import Source

BYTES = 16 << 20
INTERESTING = [0, 1, 0x7F, 0x80, 0xFF]
fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Flips = list[tuple[float, int]]
flips = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(INTERESTING) | st.integers(0, 255)),
    max_size=4,
)
cuts = st.none() | st.floats(0, 1)


def damaged(data: bytes, region: int, changes: Flips, cut: float | None) -> bytes:
    raw = bytearray(data)
    for where, value in changes:
        raw[int(where * region)] = value
    return bytes(raw if cut is None else raw[: int(cut * len(raw))])


def survives(path: Path) -> None:
    tracemalloc.start()
    try:
        with open_checkpoint(path) as checkpoint:
            for tensor in checkpoint.tensors.values():
                tensor.read()
                if tensor.grid is not None:
                    tensor.codes(0, tensor.shape[0])
    except CheckpointError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < BYTES


@pytest.fixture(scope="module")
def header_bytes(source: Source) -> int:
    return read_gguf_header(source.gguf).data_start


@fuzz
@given(changes=flips, cut=cuts)
def test_a_damaged_gguf(
    source: Source, header_bytes: int, tmp_path: Path, changes: Flips, cut: float | None
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(damaged(source.gguf.read_bytes(), header_bytes, changes, cut))
    survives(path)


@fuzz
@given(changes=flips, cut=cuts)
def test_a_damaged_start_of_a_gguf(source: Source, tmp_path: Path, changes: Flips, cut: float | None) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(damaged(source.gguf.read_bytes(), 700, changes, cut))
    survives(path)


@fuzz
@given(changes=flips, cut=cuts)
def test_a_damaged_safetensors(source: Source, tmp_path: Path, changes: Flips, cut: float | None) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(source.folder, folder, dirs_exist_ok=True)
    data = (source.folder / SINGLE).read_bytes()
    region = 8 + int.from_bytes(data[:8], "little")
    (folder / SINGLE).write_bytes(damaged(data, region, changes, cut))
    survives(folder)


@fuzz
@given(
    changes=flips,
    cut=cuts,
    name=st.sampled_from(["config.json", "generation_config.json", "tokenizer_config.json"]),
)
def test_a_damaged_configuration(
    source: Source, tmp_path: Path, changes: Flips, cut: float | None, name: str
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(source.folder, folder, dirs_exist_ok=True)
    data = (source.folder / name).read_bytes()
    (folder / name).write_bytes(damaged(data, len(data), changes, cut))
    survives(folder)
