"""`edge plan`: what is printed, to the letter."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.export_memory import R1_DISTILL_QWEN_1_5B
from boards.gpu import Gpu
from edge.artifact import open_artifact
from edge.cache import folder as folder_module
from edge.cli import plan as plan_module
from edge.errors import EngineError, GpuMissing
from edge.memory.probe import Memory
from runtimes.site import HOST
from runtimes.tensorrt.engine import TensorRtEngine
from tests.edge.cli.artifacts import write_windowed
from tests.edge.cli.conftest import Ended
from tests.export.small import small_checkpoint
from tests.runtimes.tensorrt.machine import build
from tests.runtimes.tensorrt_artifact import write_artifact

Run = Callable[..., Ended]
GIB = 1 << 30

FITS = """\
part             MiB
weights        953.8  1777 M parameters, engine cpu                ████████████████████
KV cache       233.0  16384 tokens in int8, 14896 bytes each       █████
workspace       21.9  a prefill chunk, logits, rotary tables       █
runtime        231.4  Python, ONNX Runtime, tokenizer              █████
prefix cache   233.0  what was read, for prompts that begin alike  █████
reserve        204.8  left to the system                           ████
needed        1877.9
there is      4096.0  as asked

fits; the largest context that fits is 131072 tokens (all that the model takes)
on the disk: up to 1024.0 MiB of the prefix cache, in /cache
"""
FITS_NOT = """\
part          MiB
weights     953.8  1777 M parameters, engine cpu                              ████████
KV cache   3584.0  4 conversations of 32768 tokens in fp16, 28672 bytes each  █████████████████████████████
workspace    29.9  a prefill chunk, logits, rotary tables                     █
runtime     231.4  Python, ONNX Runtime, tokenizer                            ██
reserve     153.6  left to the system                                         █
needed     4952.7
there is   3072.0  as asked

does not fit: 1880.7 MiB are missing
  would fit: kv int4 (2377 MiB)
  would fit: sessions 1 (2265 MiB)
  would fit: context 15616 (3068 MiB)
"""


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten gigabytes are free where the cache would be."""
    monkeypatch.setenv("EDGEWISE_CACHE", "/cache")
    monkeypatch.setattr(folder_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=10 * GIB))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "r1" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(R1_DISTILL_QWEN_1_5B))
    return path


def test_a_config_alone(run_edge: Run, config: Path) -> None:
    options = ("--memory", "4GiB", "--context", "16384")
    assert run_edge("plan", config, *options) == Ended(0, FITS, "")
    assert run_edge("plan", config.parent, *options).out == FITS


def test_what_would_fit(run_edge: Run, config: Path) -> None:
    options = ("--memory", "3GiB", "--context", "32768", "--sessions", "4", "--kv", "fp16")
    assert run_edge("plan", config, *options) == Ended(0, FITS_NOT, "")


def test_json(run_edge: Run, config: Path) -> None:
    report = run_edge("plan", config, "--memory", "1GiB", "--sessions", "2", "--json").json
    assert set(report) == {
        "fits",
        "available_bytes",
        "required_bytes",
        "engine",
        "kv",
        "kv_bytes_per_token",
        "context",
        "sessions",
        "max_context",
        "suggestions",
        "notes",
        "disk",
    }
    required = report["required_bytes"]
    parts = ["weights", "kv", "workspace", "runtime", "prefix_cache", "reserve"]
    assert list(required) == [*parts, "total"]
    assert required["total"] == sum(required[part] for part in parts)
    assert (report["fits"], report["available_bytes"], report["max_context"]) == (False, GIB, 0)


def test_an_artifact_needs_its_manifest_only(run_edge: Run, tmp_path: Path) -> None:
    artifact = write_windowed(tmp_path / "windowed.edge")
    (artifact / "onnxruntime" / "weights.bin").unlink()
    report = run_edge("plan", artifact, "--memory", "1GiB", "--json").json
    assert report["fits"]
    assert report["engine"] == "onnxruntime"
    assert report["kv_bytes_per_token"] == 768
    assert run_edge("plan", artifact / "edge.json", "--memory", "1GiB", "--json").json == report


def test_kv_that_was_settled_at_export(run_edge: Run, tmp_path: Path) -> None:
    artifact = write_windowed(tmp_path / "windowed.edge")
    plan = ("plan", artifact, "--memory", "1GiB")
    exact = run_edge(*plan, "--json").json
    assert exact["notes"] == []
    assert run_edge(*plan, "--kv", "fp32", "--json").json == exact
    refused = run_edge(*plan, "--kv", "int8")
    assert refused.code == 1
    assert "is not what" in refused.err
    assert "export it again with --kv int8" in refused.err

    manifest = json.loads((artifact / "edge.json").read_text())
    manifest["kv"] = [{**group, "type": "int8", "scale_group": 1} for group in manifest["kv"]]
    (artifact / "edge.json").write_text(json.dumps(manifest))
    coded = run_edge(*plan, "--json").json
    assert (coded["kv"], coded["kv_bytes_per_token"]) == ("int8", exact["kv_bytes_per_token"] // 4)
    [note] = coded["notes"]
    assert "slower than with fp32" in note
    assert note in run_edge(*plan).out

    manifest["kv"] = [{**group, "type": "float8"} for group in manifest["kv"]]
    (artifact / "edge.json").write_text(json.dumps(manifest))
    assert "KV is kept as 'float8', which edgewise" in run_edge(*plan).err


def test_kv_of_weights_for_stock_operators(run_edge: Run, config: Path) -> None:
    report = run_edge("plan", config, "--memory", "8GiB", "--weights", "fp16", "--kv", "int8", "--json").json
    assert (report["engine"], report["kv"], report["kv_bytes_per_token"]) == ("onnxruntime", "int8", 14336)
    assert len(report["notes"]) == 1


def test_this_machine(run_edge: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Memory(
        total=8 * GIB,
        available=6 * GIB,
        cgroup_limit=7 * GIB,
        swap_free=0,
        zram_free=4 * GIB,
        board="NVIDIA Jetson Orin Nano",
        unified=True,
        gpus=(),
    )
    monkeypatch.setattr(plan_module, "probe", lambda: board)
    out = run_edge("plan", config).out
    where = "NVIDIA Jetson Orin Nano, shared with the GPU, cgroup limit 7168.0 MiB, swap not counted"
    assert f"there is      6144.0  {where}" in out
    machine = run_edge("plan", config, "--json").json["machine"]
    assert (machine["unified"], machine["zram_free"], machine["gpus"]) == (True, 4 * GIB, [])


CARD = f"""\
on the card              MiB
weights                  0.0  0 M parameters, engine tensorrt                        █
KV cache                 0.1  300 tokens in a bucket of 512 in fp16, 256 bytes each  █
workspace                0.4  a prefill chunk, logits, rotary tables                 █
reserve                256.0  left to the system                                     {"█" * 40}
needed                 256.5
there is              5120.0  free on NVIDIA GeForce RTX 4060
in the host's memory
workspace                0.1  what the card is fed and gives                         █
runtime                 72.3  Python, ONNX Runtime, tokenizer                        ███████████████████████
prefix cache             0.1  what was read, for prompts that begin alike            █
reserve                 51.2  left to the system                                     █████████████████
needed                 123.7
there is              1024.0  this machine

fits; the largest context that fits is 512 tokens (the largest that an engine was built for; the model takes 2048)
on the disk: up to 1024.0 MiB of the prefix cache, in /cache
"""


def test_what_is_on_a_card(run_edge: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Gpu("NVIDIA GeForce RTX 4060", 8 * GIB, 5 * GIB)
    here = Memory(
        total=8 * GIB,
        available=GIB,
        cgroup_limit=None,
        swap_free=0,
        zram_free=0,
        board="",
        unified=False,
        gpus=(card,),
    )
    monkeypatch.setattr(plan_module, "probe", lambda: here)
    monkeypatch.setattr(TensorRtEngine, "site", lambda artifact: HOST)
    artifact = write_artifact(tmp_path)
    build(artifact, "opset24", (256, 512))
    assert run_edge("plan", artifact, "--context", "300") == Ended(0, CARD, "")
    report = run_edge("plan", artifact, "--json").json
    assert (report["available_bytes"], report["host"]["available_bytes"]) == (5 * GIB, GIB)
    assert (report["context"], report["max_context"]) == (512, 512)
    assert report["required_bytes"]["runtime"] == report["host"]["required_bytes"]["kv"] == 0
    assert report["host"]["required_bytes"]["runtime"] > 0
    refused = run_edge("plan", artifact, "--context", "600")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        "error: context is 600; this model takes from 1 to 2048 tokens, and the engines built for it from 1 to 512; "
        f"build one for more with: edge build {artifact} --target GPU-OR-BOARD --context 600\n"
    )
    # None is built for more than the model takes.
    assert run_edge("plan", artifact, "--context", "2049").err == (
        "error: context is 2049; this model takes from 1 to 2048 tokens, and the engines built for it from 1 to 512\n"
    )
    # A model that is not on the card has nothing to do with it.
    other = run_edge("plan", write_windowed(tmp_path / "windowed.edge"), "--json").json
    assert "host" not in other
    assert other["available_bytes"] == GIB

    (tmp_path / "cuda").mkdir()
    for_cuda = write_artifact(tmp_path / "cuda", engine="cuda")
    for options in ([for_cuda], [artifact, "--weights", "int4", "--engine", "cuda"]):
        report = run_edge("plan", *options, "--json").json
        assert (report["engine"], report["available_bytes"]) == ("cuda", 5 * GIB)
        assert report["host"]["available_bytes"] == GIB

    few = replace(here, available=90 << 20)
    monkeypatch.setattr(plan_module, "probe", lambda: few)
    assert (
        "does not fit: 14.3 MiB are missing in the host's memory; free some" in run_edge("plan", artifact).out
    )
    full = replace(here, gpus=(replace(card, free=0),))
    monkeypatch.setattr(plan_module, "probe", lambda: full)
    assert "MiB are missing on the card" in run_edge("plan", artifact).out

    # One memory, and the manifest alone: by tokens.
    report = run_edge("plan", artifact, "--memory", "1GiB", "--json").json
    assert (report["max_context"], "host" in report) == (512, False)
    for file in artifact.rglob("*.engine"):
        file.unlink()
    assert run_edge("plan", artifact, "--memory", "1GiB", "--json").json["max_context"] == 2048


def test_it_is_planned_for_the_engine_that_auto_takes(
    run_edge: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = write_artifact(tmp_path)
    parameters, weights = (
        run_edge("inspect", artifact, "--json").json["parameters"],
        open_artifact(artifact).manifest.weight_bytes,
    )

    def no_gpu(artifact: object) -> None:
        raise GpuMissing("there is no NVIDIA GPU")

    monkeypatch.setattr(TensorRtEngine, "site", no_gpu)
    report = run_edge("plan", artifact, "--memory", "1GiB", "--json").json
    assert (report["engine"], report["required_bytes"]["weights"]) == ("portable", weights + 6 * parameters)
    why = "engine portable, which auto takes here: there is no NVIDIA GPU; --engine tensorrt plans for a GPU"
    assert report["notes"] == [why]
    assert run_edge("plan", artifact, "--memory", "1GiB").out.splitlines()[-2:-1] == [why]
    asked = run_edge("plan", artifact, "--memory", "1GiB", "--engine", "tensorrt", "--json").json
    assert (asked["engine"], asked["required_bytes"]["weights"], asked["notes"]) == ("tensorrt", weights, [])
    asked = run_edge("plan", artifact, "--memory", "1GiB", "--engine", "portable", "--json").json
    assert (asked["engine"], asked["notes"]) == ("portable", [])
    assert f"{artifact} is for engine tensorrt, not cpu" in run_edge("plan", artifact, "--engine", "cpu").err

    def no_engine(artifact: object) -> None:
        raise EngineError("it has no engine for sm_89")

    monkeypatch.setattr(TensorRtEngine, "site", no_engine)
    report = run_edge("plan", artifact, "--memory", "1GiB", "--json").json
    told = "edge run refuses it here: it has no engine for sm_89"
    assert (report["engine"], report["notes"]) == ("tensorrt", [told])


@pytest.mark.parametrize(
    ("options", "engine", "kv"),
    [
        (("--engine", "onnxruntime"), "onnxruntime", "float32"),
        (("--engine", "cuda", "--weights", "fp16"), "cuda", "float16"),
        (("--engine", "portable"), "portable", "float16"),
    ],
)
def test_a_config_for_another_engine(
    run_edge: Run, config: Path, options: tuple[str, ...], engine: str, kv: str
) -> None:
    report = run_edge("plan", config, "--memory", "8GiB", *options, "--json").json
    assert (report["engine"], report["kv"]) == (engine, kv)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "cpu", "--weights", "fp16"), "engine cpu takes weights in int4, int8, not fp16"),
        (("--engine", "cuda", "--kv", "int8"), "--kv int8 is not what engine cuda keeps"),
        (("--memory", "lots"), "'lots' is no size; write for example 6GiB"),
        (("--memory", "0"), "memory is 0; give auto, bytes from 1 on"),
        (("--context", "0"), "context is 0; this model takes from 1 to 131072 tokens"),
        (("--context", "200000"), "context is 200000; this model takes from 1 to 131072 tokens"),
        (("--sessions", "-1"), "sessions is -1; give 1 or more"),
        (("--sessions", "9" * 400), "sessions is 9999"),
        (("--memory", "9" * 400), "'9999"),
        (("--memory", "6iB"), "'6iB' is no size"),
        (
            ("--weights", "fp16", "--kv", "fp16"),
            "--kv fp16 is not what engine onnxruntime keeps, fp32 or int8 or int4",
        ),
    ],
)
def test_bad_values(run_edge: Run, config: Path, options: tuple[str, ...], message: str) -> None:
    ended = run_edge("plan", config, *options)
    assert ended.code == 1
    assert ended.err.startswith(f"error: {message}")
    assert ended.out == ""


@pytest.mark.parametrize("held", [[], ["tpu"]])
def test_an_artifact_for_no_engine_of_ours(run_edge: Run, tmp_path: Path, held: list[str]) -> None:
    artifact = write_windowed(tmp_path / "windowed.edge")
    manifest = json.loads((artifact / "edge.json").read_text())
    manifest["variants"] = [{**manifest["variants"][0], "engine": name} for name in held]
    (artifact / "edge.json").write_text(json.dumps(manifest))
    ended = run_edge("plan", artifact)
    assert ended.code == 1
    assert "has no variant for any of cpu, onnxruntime, tensorrt, cuda; export it again" in ended.err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.json", None, "no such file or folder"),
        ("empty/config.json", "", "config.json"),
        ("list/config.json", "[]", "config.json"),
        (
            "other/config.json",
            '{"model_type": "bert"}',
            "model_type 'bert' is not an architecture Edgewise knows",
        ),
    ],
)
def test_bad_sources(run_edge: Run, tmp_path: Path, name: str, content: str | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.parent.mkdir()
        path.write_text(content)
    ended = run_edge("plan", path)
    assert ended.code == 1
    assert message in ended.err


def test_a_checkpoint_folder(run_edge: Run, tmp_path: Path) -> None:
    report = run_edge("plan", small_checkpoint(tmp_path / "small"), "--memory", "1GiB", "--json").json
    assert report["fits"]
