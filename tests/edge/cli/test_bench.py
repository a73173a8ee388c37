"""`edge bench` and the bandwidth it measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.artifact import open_artifact
from edge.cli.bench import bytes_per_token
from edge.memory import bandwidth
from edge.memory.bandwidth import last_level_cache_bytes, read_bandwidth
from tests.edge.cli.artifacts import MANIFEST_OF_WINDOWED
from tests.edge.cli.conftest import Ended

Run = Callable[..., Ended]
SMALL = ("--prompt-tokens", "16", "--decode-tokens", "4", "--rounds", "2", "--threads", "1")


@pytest.fixture(autouse=True)
def small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "_SMALLEST_BUFFER", 1 << 20)
    monkeypatch.setattr(bandwidth, "_LARGEST_BUFFER", 1 << 20)


def test_json(run_edge: Run, tiny_artifact: Path) -> None:
    ended = run_edge("bench", tiny_artifact, *SMALL, "--json")
    assert ended.err == ""
    report = ended.json
    assert (report["prompt_tokens"], report["completion_tokens"], report["rounds"]) == (16, 4, 2)
    assert (report["engine"], report["isa"], report["threads"]) == ("onnxruntime", "", 1)
    assert set(report["timings"]) == {"load_s", "ttft_s", "prefill_tokens_per_s", "decode_tokens_per_s"}
    assert set(report["memory"]) == {"peak_rss_bytes", "kv_bytes", "weight_bytes"}
    assert all(value > 0 for part in ("timings", "memory") for value in report[part].values())
    manifest = open_artifact(tiny_artifact).manifest
    assert report["bytes_per_token"] == manifest.decode_bytes + 18 * manifest.kv_bytes_per_token
    assert report["bandwidth_fraction"] == pytest.approx(
        report["timings"]["decode_tokens_per_s"] * report["bytes_per_token"] / report["bandwidth_bytes_per_s"]
    )


def test_under_what_conditions(run_edge: Run, tiny_artifact: Path, on_an_orin: None) -> None:
    report = run_edge("bench", tiny_artifact, *SMALL, "--json").json["conditions"]
    assert (report["board"], report["power_mode"]) == ("jetson-orin-nano-super-8gb", "MAXN_SUPER")
    assert report["temperature_c"] == {
        "start": 50.125,
        "end": 50.125,
        "highest": 50.125,
        "zone": "gpu-thermal",
    }
    assert (report["throttled"], report["fault"], report["energy_missing"]) == (False, "", [])
    [energy] = report["energy"]
    # 7.524 W all the time, whatever time it took.
    assert energy["decode_watts"] == pytest.approx(5.016 * 1.5)
    assert energy["joules_per_token"] == pytest.approx(energy["decode_joules"] / (2 * 3))
    assert energy["joules_per_prompt_token"] == pytest.approx(energy["prefill_joules"] / (2 * 16))
    out = run_edge("bench", tiny_artifact, *SMALL, "--quiet").out
    assert "board           Jetson Orin Nano Super 8GB, power mode MAXN_SUPER\n" in out
    assert "throttled       no, by thermal zones, cooling devices, event counters\n" in out
    assert " J a token, 7.5 W while decoding (power monitor, VDD_IN: the module)\n" in out


def test_the_table_and_the_rounds(run_edge: Run, tiny_artifact: Path, on_a_bare_machine: None) -> None:
    ended = run_edge("bench", tiny_artifact, *SMALL)
    assert [line.split("  ")[0] for line in ended.out.splitlines()] == [
        "engine",
        "load",
        "prefill",
        "first token",
        "decode",
        "memory",
        "read per token",
        "read bandwidth",
        "reached",
        "board",
        "temperature",
        "throttled",
        "energy",
    ]
    assert [line.split(":")[0] for line in ended.err.splitlines()] == ["round 1 of 2", "round 2 of 2"]
    assert run_edge("bench", tiny_artifact, *SMALL, "--quiet").err == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--prompt-tokens", "0"), "--prompt-tokens is 0; give 1 or more"),
        (("--decode-tokens", "1"), "--decode-tokens is 1; give 2 or more"),
        (("--rounds", "0"), "--rounds is 0; give 1 or more"),
        (("--prompt-tokens", "60", "--decode-tokens", "5", "--context", "64"), "more than the context of 64"),
    ],
)
def test_wrong_numbers(run_edge: Run, tiny_artifact: Path, args: tuple[str, ...], message: str) -> None:
    ended = run_edge("bench", tiny_artifact, *args)
    assert (ended.code, ended.out) == (1, "")
    assert message in ended.err


@pytest.mark.parametrize(("held", "kv"), [(0, 0), (100, 100 * 768), (1000, 1000 * 256 + 256 * 512)])
def test_bytes_per_token_leaves_out_the_embedding_and_what_windows_have_forgotten(held: int, kv: int) -> None:
    assert bytes_per_token(MANIFEST_OF_WINDOWED, MANIFEST_OF_WINDOWED.kv, held) == 46080 + 40000 + kv


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_whole_buffer_is_read(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    sizes: list[int] = []
    read = bandwidth._read
    monkeypatch.setattr(bandwidth, "_read", lambda share: (sizes.append(share.nbytes), read(share))[1])
    assert read_bandwidth(threads, rounds=4, buffer_bytes=1 << 20) > 0
    assert len(sizes) == 4 * threads
    assert sum(sizes) == 4 << 20


def test_last_level_cache(tmp_path: Path) -> None:
    for index, text in enumerate(("48K\n", "2048K\n", "32M", "nonsense", "")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}/size").write_text(text)
    assert last_level_cache_bytes(tmp_path) == 32 << 20
    assert last_level_cache_bytes(tmp_path / "nowhere") == 0
