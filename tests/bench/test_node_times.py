"""Where the time of a token goes: nodes by kind, runs apart, and a small artifact."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench import node_times
from export import export

KINDS = {"q, k, v", "attention", "attention output", "gate, up", "down", "head", "embedding"}


def test_nodes_of_runs() -> None:
    """Each node counts for the run that it lies in; what none of them took is between them."""
    layer = "model.layers.0"
    events = [
        {"name": "model_run", "cat": "Session", "ts": 100, "dur": 50},
        {"name": "model_run", "cat": "Session", "ts": 10, "dur": 20},
        {"name": "model_loading_uri", "cat": "Session", "ts": 0, "dur": 5},
        {"name": f"{layer}.self_attn.mixed_kernel_time", "cat": "Node", "ts": 12, "dur": 7},
        {"name": f"{layer}.self_attn.mixed_fence_before", "cat": "Node", "ts": 11, "dur": 1},
        {"name": f"{layer}.mlp.down_proj_kernel_time", "cat": "Node", "ts": 101, "dur": 30},
        {"name": "model.layers.1.mlp.down_proj_kernel_time", "cat": "Node", "ts": 140, "dur": 4},
        {"name": "unheard_of_kernel_time", "cat": "Node", "ts": 147, "dur": 1},
    ]
    assert node_times.node_times(events) == [
        Counter({"attention": 7, "between nodes": 13}),
        Counter({"down": 34, "other nodes": 1, "between nodes": 15}),
    ]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("form", ["table", "json"])
def test_small_artifact(
    form: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    export(tiny_checkpoint, tmp_path / "tiny.edge", engine="cpu")
    arguments = ["node_times", str(tmp_path / "tiny.edge"), "--tokens", "5", "--held", "9", "--prompt", "200"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--threads", "1", *(["--json"] if form == "json" else [])])
    node_times.main()
    out = capsys.readouterr().out
    if form == "table":
        assert {line.split("  ")[0] for line in out.splitlines()} >= KINDS
        return
    rows = {row["kind"]: row for row in json.loads(out)}
    assert set(rows) >= KINDS
    for part in ("token", "prompt"):
        assert sum(row[f"{part}_share"] for row in rows.values()) == pytest.approx(1)
    # All quantized weights but the embedding are read for every token.
    folder = tmp_path / "tiny.edge" / "cpu"
    panels = sum(
        t["length"] for t in json.loads((folder / "weights.json").read_text()) if ".panels" in t["name"]
    )
    read = sum(row["token_bytes"] for kind, row in rows.items() if kind != "attention")
    embedding = sum(
        t["length"] for t in json.loads((folder / "weights.json").read_text()) if "embed" in t["name"]
    )
    assert read == panels - (embedding if rows["head"]["token_bytes"] != embedding else 0)
    assert all(row["token_bytes"] > 0 for kind, row in rows.items() if kind in KINDS - {"embedding"})
