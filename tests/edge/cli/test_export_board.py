"""`edge export --board`: follows the plan, lets explicit options through, and a load goes by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import boards
import edge
import edge.cli.export
from edge.artifact import MANIFEST, open_artifact, planned_kv
from edge.cli import export_board
from edge.cli.export_board import board_export
from edge.cli.export_report import next_step
from edge.errors import ArtifactCorrupt, InvalidArgument, MemoryBudgetError
from edge.memory import admission
from edge.memory.needs import Needs
from edge.memory.room import room_of
from export import convert, export
from export.quantize import Recipe
from export.variant import chosen_engine, chosen_kv
from tests.edge.cli.conftest import Ended

Run = Callable[..., Ended]
MIB = 1 << 20


def decided(source: Path, board: str, context: int | None = None, **given: Any) -> dict[str, Any]:
    return board_export(str(source), board, context, 1, given).options


@pytest.fixture
def shape(tmp_path: Path) -> Path:
    """config.json of DeepSeek-R1-Distill-Qwen-1.5B, alone."""
    from bench.export_memory import R1_DISTILL_QWEN_1_5B

    (tmp_path / "r1").mkdir()
    (tmp_path / "r1" / "config.json").write_text(json.dumps(R1_DISTILL_QWEN_1_5B))
    return tmp_path / "r1"


@pytest.mark.parametrize(
    ("board", "given", "options"),
    [
        ("jetson-orin-nano-super-8gb", {}, {"weights": "int8", "block": 32}),
        ("raspberry-pi-5-8gb", {}, {"weights": "int4", "block": 32}),
        ("rk3588-8gb", {}, {"bits": 5.0}),
        ("rk3588-8gb", {"typed": True}, {"weights": "int4", "block": 32}),
        ("rk3588-8gb", {"weights": "int8", "block": 64}, {"weights": "int8", "block": 64}),
        ("rk3588-8gb", {"size": "1GB"}, {"size": "1GB"}),
        ("rk3588-8gb", {"bits": 4.5}, {"bits": 4.5}),
        ("rtx-4090", {}, {"weights": "int8", "engine": "tensorrt", "kv": "fp16"}),
        ("rtx-4090", {"kv": "int8"}, {"kv": "int8", "engine": "tensorrt"}),
        ("rtx-4090", {"weights": "fp16"}, {"weights": "fp16", "kv": "fp16", "engine": "tensorrt"}),
        ("rtx-4090", {"engine": "onnxruntime"}, {"engine": "onnxruntime", "kv": "fp32"}),
        ("rtx-4090", {"engine": "cuda"}, {"weights": "int8", "engine": "cuda", "kv": "fp16"}),
        ("rtx-4090", {"engine": "tensorrt"}, {"engine": "tensorrt", "kv": "fp16"}),
        ("rtx-4090", {"engine": "tensorrt", "kv": "int8"}, {"engine": "tensorrt", "kv": "int8"}),
        ("raspberry-pi-5-8gb", {"engine": "onnxruntime"}, {"engine": "onnxruntime"}),
        ("raspberry-pi-5-16gb", {"weights": "fp16"}, {"weights": "fp16", "engine": "onnxruntime"}),
    ],
)
def test_what_the_exporter_is_told(
    shape: Path, board: str, given: dict[str, Any], options: dict[str, Any]
) -> None:
    found = decided(shape, board, **given)
    assert found["engine"] == options.get("engine", "cpu")
    assert {key: found[key] for key in options} == options
    # What is told is what the exporter takes: never a target beside a type.
    assert not {"weights", "bits"} <= set(found)
    assert ("kv" in found) == (found["engine"] != "cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--board", "jetson-nano", "--weights", "fp32"),
            "r1 does not fit jetson-nano: with weights fp32, KV int4 and 256 tokens it needs 7538.2 MiB with the "
            "reserve, and there are 3814.7, so 3723.5 are missing; without --weights it would have weights int4, "
            "block 32, KV int8 and 8192 tokens",
        ),
        (
            ("--board", "jetson-nano", "--context", "131072", "--kv", "fp32", "--sessions", "9"),
            "without --context and --kv one conversation would have weights int4",
        ),
        (("--board", "jetson-nano", "--size", "9GB"), "without --size it would have"),
        (("--board", "jetson-nano", "--size", "big"), "'big' is no size"),
        (("--board", "jetson-nano", "--size", "1GB", "--bits", "5"), "bits and size are both given"),
        (
            ("--board", "jetson-nano", "--context", "200000"),
            "context is 200000; this model takes from 1 to 131072",
        ),
        (
            ("--board", "jetson-nano", "--engine", "cpu", "--weights", "fp16"),
            "engine cpu takes weights in int4, int8, not fp16",
        ),
        (
            ("--board", "raspberry-pi-5-8gb", "--tensorrt"),
            "Raspberry Pi 5 8GB cannot run engine tensorrt: no GPU that an engine uses; leave the engine out",
        ),
        (
            ("--board", "rtx-4060", "--tensorrt", "--kv", "fp32"),
            "--kv fp32 is not what engine tensorrt keeps, fp16 or int8; drop --kv",
        ),
        (
            # What would fit is of the engine that was asked for.
            ("--board", "jetson-orin-nano-4gb", "--engine", "cuda", "--weights", "fp16"),
            "without --weights it would have weights int4, block 32, KV fp16 and 8192 tokens",
        ),
        (
            ("--board", "rtx-4060", "--engine", "cuda", "--kv", "int8"),
            "--kv int8 is not what engine cuda keeps, fp16",
        ),
        (("--board", "jetson-nanu"), "did you mean jetson-nano"),
        (("--context", "4096"), "--context is what --board is to leave room for; add --board NAME"),
        (("--sessions", "2"), "--sessions is what --board is to leave room for"),
    ],
)
def test_what_cannot_be(
    run_edge: Run, shape: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    ended = run_edge("export", shape, "-o", tmp_path / "r1.edge", *options)
    assert (ended.code, ended.out) == (1, "")
    assert message in ended.err
    assert not (tmp_path / "r1.edge").exists()


NVIDIA = [p.name for p in boards.profiles() if p.sm is not None and "tensorrt" in p.engines.value]


@pytest.mark.parametrize("board", NVIDIA)
@pytest.mark.parametrize("engine", ["tensorrt", "cuda"])
def test_what_a_gpu_is_planned_for_its_exporter_takes(shape: Path, board: str, engine: str) -> None:
    for context in (None, 16384):
        for given in (
            {},
            {"kv": "fp16"},
            {"weights": "int4"},
            {"weights": "int8", "kv": "fp16"},
            {"bits": 4.5},
        ):
            planned = board_export(str(shape), board, context, 1, {"engine": engine, **given})
            options = planned.options
            assert options["engine"] == chosen_engine(engine, Recipe(weights=options.get("weights", "int4")))
            assert chosen_kv(options["kv"], engine) == planned.choice.plan.needs.kv_type
            assert planned.record["context"] == planned.choice.plan.context == context or context is None
            assert {key: options[key] for key in given} == given


@pytest.mark.parametrize(
    ("board", "options", "next_"),
    [
        ("rtx-4060", (), "edge build {out} --target rtx-4060 --context 60, see docs/tensorrt.md"),
        (
            "jetson-orin-nano-super-8gb",
            ("--tensorrt", "--target", "jetson-orin-nano-super-8gb"),
            "on the board: edge build {out} --target jetson-orin-nano-super-8gb --context 60",
        ),
        (
            "jetson-orin-nano-8gb",
            ("--tensorrt", "--kv", "int8"),
            "edge build {out} --target jetson-orin-nano-8gb --context 60, see docs/tensorrt.md",
        ),
    ],
)
def test_what_is_built_next_has_the_planned_context(
    run_edge: Run, tiny_checkpoint: Path, tmp_path: Path, board: str, options: tuple[str, ...], next_: str
) -> None:
    out = tmp_path / "tiny.edge"
    common = ("--method", "rtn", "--no-fidelity", "--context", "60")
    ended = run_edge("export", tiny_checkpoint, "-o", out, "--board", board, *common, *options)
    assert ended.code == 0, ended.err
    assert ended.out.endswith(f"\nNext: {next_.format(out=out)}\n")
    assert ", 60 tokens of context, KV " in ended.out


def test_a_machine_without_a_name_is_a_target_by_its_gpu() -> None:
    board = {"name": "this-machine", "sm": "8.6", "context": 4096}
    report = {"path": "m.edge", "engine": "tensorrt", "board": board}
    assert next_step(report) == "edge build m.edge --target sm86 --context 4096, see docs/tensorrt.md"


def test_an_engine_is_built_for_the_planned_context(
    run_edge: Run, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def build(artifact: Path, targets: list[str], **options: Any) -> dict[str, Any]:
        asked.append({"targets": targets, **options})
        return {"engines": []}

    monkeypatch.setattr(edge.cli.export, "_sorted_targets", lambda names, engine, weights: (["rtx-4060"], []))
    monkeypatch.setattr(edge.cli.export, "run_build", build)
    base = (
        "export",
        tiny_checkpoint,
        "--tensorrt",
        "--target",
        "rtx-4060",
        "--method",
        "rtn",
        "--no-fidelity",
        "-q",
    )
    for name, options in (
        ("a", ("--board", "rtx-4060", "--context", "60")),
        ("b", ("--board", "rtx-4060")),
        ("c", ()),
    ):
        assert run_edge(*base, "-o", tmp_path / f"{name}.edge", *options).code == 0
    whole = open_artifact(tmp_path / "b.edge").spec.context
    assert [each["contexts"] for each in asked] == [[60], [whole], None]
    assert [each["targets"] for each in asked] == [["rtx-4060"]] * 3


def test_a_limit_that_leaves_nothing(run_edge: Run, shape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = replace(room_of(boards.profile("jetson-nano")), whole=16 * MIB, reserve=32 * MIB)
    monkeypatch.setattr(export_board, "room", lambda name: tiny)
    with pytest.raises(
        MemoryBudgetError, match=r"there are 16\.0, so .* are missing; see which boards it fits"
    ):
        board_export(str(shape), "this", None, 1, {})


def test_an_artifact_is_no_source(run_edge: Run, tiny_artifact: Path) -> None:
    with pytest.raises(InvalidArgument, match="is an artifact already; name the checkpoint"):
        board_export(str(tiny_artifact), "jetson-nano", None, 1, {})


def test_it_says_so_and_writes_it_down(
    run_edge: Run, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tiny.edge"
    ended = run_edge("export", tiny_checkpoint, "-o", out, "--board", "jetson-orin-nano-8gb", "--kv", "int4")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("recipe: weights int8, block 32, KV int4, engine cpu\n")
    assert "\nfor              Jetson Orin Nano 8GB, " in ended.out
    manifest = open_artifact(out).manifest
    record = manifest.provenance["board"]
    assert (record["name"], record["sm"], record["kv"]) == ("jetson-orin-nano-8gb", "8.7", "int4")
    assert record["targets"] == [{"engine": "tensorrt", "sm": "8.7", "built": False}]
    assert record["context"] == manifest.spec.context
    assert record["required_bytes"] <= record["memory_bytes"]
    assert (planned_kv(manifest), manifest.kv[0].type) == ("int4", "int4")
    # What was planned is what a plan of the artifact now says, but for the prefix cache.
    report = run_edge("plan", out, "--board", "jetson-orin-nano-8gb", "--prefix-cache", "0", "--json").json
    assert report["recipe"]["kv"] == "int4"
    assert report["required_bytes"]["total"] == record["required_bytes"]
    assert "Jetson Orin Nano 8GB, " in run_edge("inspect", out).out
    again = run_edge(
        "export", tiny_checkpoint, "-o", out, "--force", "--board", "jetson-orin-nano-8gb", "--json"
    )
    assert again.json["board"] == open_artifact(out).manifest.provenance["board"]


@pytest.mark.usefixtures("kernels")
def test_a_load_goes_by_it_and_by_what_is_free_then(
    run_edge: Run, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tiny.edge"
    run_edge("export", tiny_checkpoint, "-o", out, "--board", "jetson-orin-nano-8gb", "--kv", "int4", "-q")
    with edge.load(out) as model:
        assert model.engine.kv[0].type == "int4"
        assert model.plan is not None
        assert model.plan.needs.kv_type == "int4"
    with edge.load(out, kv="int8") as model:
        assert model.engine.kv[0].type == "int8"
    # On the board itself what is free now counts, not what the profile says.
    monkeypatch.setattr(admission, "available_bytes", lambda: 40 * MIB)
    with pytest.raises(MemoryBudgetError, match="a conversation of 64 tokens needs"):
        edge.load(out, context=64)


def test_kv_of_stock_operators_is_in_the_graph(run_edge: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.edge"
    assert (
        run_edge(
            "export", tiny_checkpoint, "-o", out, "--board", "rtx-4090", "--engine", "onnxruntime", "-q"
        ).code
        == 0
    )
    manifest = open_artifact(out).manifest
    assert (manifest.variants[0].engine, planned_kv(manifest)) == ("onnxruntime", None)
    assert manifest.provenance["board"]["kv"] == "fp32"
    with edge.load(out) as model:
        assert model.engine.kv[0].type == "float32"


def test_what_became_of_another_engine_has_that_ones_kv(
    run_edge: Run, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tiny.edge"
    run_edge("export", tiny_checkpoint, "-o", out, "--board", "jetson-nano", "--kv", "int4", "-q")
    convert(out, tmp_path / "stock.edge", engine="onnxruntime")
    with edge.load(tmp_path / "stock.edge") as model:
        assert model.engine.kv[0].type == "float32"


@pytest.mark.parametrize(
    "board", [{"kv": "int3"}, {}, {"kv": ["int8"]}, {"kv": None}, "jetson-nano", 7, [1], {"kv": "float32"}]
)
def test_a_hostile_record(tiny_checkpoint: Path, tmp_path: Path, board: Any, run_edge: Run) -> None:
    out = tmp_path / "tiny.edge"
    export(tiny_checkpoint, out)
    data = json.loads((out / MANIFEST).read_text())
    data["provenance"]["board"] = board
    (out / MANIFEST).write_text(json.dumps(data))
    manifest = open_artifact(out).manifest
    with pytest.raises(ArtifactCorrupt, match=r"provenance\.board\.kv is .*, expected one of fp32"):
        planned_kv(manifest)
    with pytest.raises(ArtifactCorrupt):
        Needs.of_artifact(manifest, "cpu")
    assert run_edge("inspect", out).code == 0
    assert "provenance.board.kv" in run_edge("plan", out).err
    assert "provenance.board.kv" in run_edge("run", out, "-p", "x").err


def test_a_record_that_export_is_given(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="board has kv None; give one of fp32, fp16, int8, int4"):
        export(tiny_checkpoint, tmp_path / "tiny.edge", board={"name": "mine"})
    assert not (tmp_path / "tiny.edge").exists()
