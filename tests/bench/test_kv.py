"""What KV types cost, in fidelity and in time: the commands on a small artifact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import kv_fidelity, kv_speed
from export import export


@pytest.fixture(scope="module")
def artifact(kernels: None, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny llama for the cpu engine."""
    path = tmp_path_factory.mktemp("kv") / "tiny.edge"
    export(tiny_checkpoint, path)
    return path


def test_fidelity_of_types(artifact: Path) -> None:
    """More bits are nearer; float32 against itself is no way off."""
    arguments = [str(artifact), "--tokens", "200", "--json"]
    for kind in ("fp32", "fp16", "int8", "int4"):
        arguments += ["--kv", kind]
    result = CliRunner().invoke(kv_fidelity.main, arguments)
    assert result.exit_code == 0, result.output
    rows = {row["kv"]: row for row in json.loads(result.stdout)["kv"]}
    assert rows["fp32"]["mean_kl"] == 0.0
    assert rows["fp16"]["mean_kl"] < rows["int8"]["mean_kl"] < rows["int4"]["mean_kl"]
    assert rows["fp32"]["bytes_per_token"] > rows["int8"]["bytes_per_token"]


def test_fidelity_table(artifact: Path) -> None:
    result = CliRunner().invoke(kv_fidelity.main, [str(artifact), "--tokens", "100", "--kv", "int8"])
    assert result.exit_code == 0, result.output
    [head, row] = result.stdout.splitlines()
    assert head.split()[:4] == ["KV", "bytes", "per", "token"]
    assert row.split()[0] == "int8"


def test_speed_of_types(artifact: Path) -> None:
    arguments = [str(artifact), "--held", "20", "--held", "100", "--rounds", "1", "--sequences", "2"]
    result = CliRunner().invoke(kv_speed.main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [(row["kv"], row["held"]) for row in rows] == [
        ("fp32", 20),
        ("int8", 20),
        ("fp32", 100),
        ("int8", 100),
    ]
    assert rows[0]["prefill_ratio"] == rows[0]["decode_ratio"] == rows[0]["decode_to_shortest"] == 1.0
    assert all(row["decode_tokens_per_s"] > 0 for row in rows)
    table = CliRunner().invoke(kv_speed.main, arguments).stdout.splitlines()
    assert len(table) == 5
    assert table[0].split()[:2] == ["KV", "held"]


def test_text_that_is_too_short(artifact: Path) -> None:
    result = CliRunner().invoke(kv_fidelity.main, [str(artifact), "--tokens", "100000000"])
    assert result.exit_code == 1
    assert "give fewer" in result.output


def test_speed_of_artifacts_that_have_their_type(tiny_artifact: Path) -> None:
    arguments = [str(tiny_artifact)] * 2 + ["--held", "20", "--rounds", "1", "--sequences", "1", "--json"]
    result = CliRunner().invoke(kv_speed.main, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [(row["kv"], row["held"]) for row in rows] == [("fp32", 20), ("fp32", 20)]
