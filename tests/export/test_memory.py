"""The exporter's memory is bounded by the largest tensor, measured on processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.export_memory import R1_DISTILL_QWEN_1_5B, measure, size, write_synthetic
from tests.models import qwen25, smollm2

MB = 1_000_000


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """Ten layers more: 170 MB as float32, 25 MB as stored. The exporter holds neither."""
    sizes = {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_attention_heads": 8,
        "vocab_size": 300,
        "max_position_embeddings": 256,
    }
    peaks = []
    for layers in (2, 12):
        config = {**R1_DISTILL_QWEN_1_5B, **sizes, "num_hidden_layers": layers}
        source = write_synthetic(tmp_path / f"{layers}", config)
        peaks.append(measure(source, tmp_path / f"{layers}.edge"))
        assert peaks[-1].artifact_bytes == size(tmp_path / f"{layers}.edge")
    assert peaks[1].artifact_bytes - peaks[0].artifact_bytes > 20 * MB
    assert peaks[0].total > 30 * MB
    assert peaks[1].total - peaks[0].total < 15 * MB


@pytest.mark.slow
def test_smollm2_exports_in_700_mb(tmp_path: Path) -> None:
    assert 30 * MB < measure(smollm2(), tmp_path / "out").total < 700 * MB


@pytest.mark.slow
def test_qwen_exports_in_1200_mb(tmp_path: Path) -> None:
    assert 30 * MB < measure(qwen25(), tmp_path / "out").total < 1200 * MB
