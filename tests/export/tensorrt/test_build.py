"""Builds, with a TensorRT that is none: what is refused, what is left, what a Jetson would do."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge.artifact import open_artifact
from edge.artifact.engine_files import FOLDER
from edge.errors import (
    ArtifactCorrupt,
    EdgeError,
    EngineError,
    EngineFailed,
    EngineTooOld,
    InvalidArgument,
    MemoryBudgetError,
    StorageError,
    TargetRefused,
    TensorRTMissing,
    UnknownTarget,
)
from export import convert
from export.tensorrt import build as room
from export.tensorrt.build import build, sorted_targets
from export.tensorrt.job import Job
from export.tensorrt.process import run
from export.tensorrt.removal import remove
from runtimes.tensorrt.header import PLAN_OFFSET, Shapes, check_plan, engines, read_header
from runtimes.tensorrt.library import this_platform
from runtimes.tensorrt.plans import found_plans, left_out

Fake = Callable[..., None]
RTX = ("tensorrt_rtx", "1.7.1.116")


def files(artifact: Path) -> dict[str, bytes]:
    return {p.relative_to(artifact).as_posix(): p.read_bytes() for p in artifact.rglob("*") if p.is_file()}


def test_an_engine_is_in_the_artifact(artifact: Path, fake_tensorrt: Fake) -> None:
    fake_tensorrt(*RTX)
    stages: list[tuple[str, int, int]] = []
    report = build(artifact, ["sm86,sm89", "sm120"], progress=lambda *told: stages.append(told))
    opened = open_artifact(artifact)
    opened.verify()
    ((name, header),) = engines(opened)
    (engine,) = report.engines
    assert engine.path == str(artifact / name)
    digest = hashlib.sha256((artifact / name).read_bytes()).hexdigest()
    assert name == f"{FOLDER}/sm86-sm89-sm120/256-{digest[:8]}.engine"
    assert header == engine.header
    assert (header.flavour, header.version, header.sms) == (*RTX, ("8.6", "8.9", "12.0"))
    assert (header.form, header.capacity, header.weights, header.kv) == (
        "opset24",
        256,
        ("int4",),
        "float16",
    )
    assert header.profiles == (Shapes(256, 32), Shapes(1, 1))
    assert header.activation_bytes == 1024 + 2048
    assert header.platform == this_platform()
    check_plan(artifact / name, header)
    plan = (artifact / name).read_bytes()[PLAN_OFFSET:].decode()
    # What the builder was told: the targets, shapes of both profiles, and the workspace.
    assert "['SM86', 'SM89', 'SM120']" in plan
    assert "('input_ids', ((1, 1), (1, 256), (1, 256)))" in plan
    assert "('past.0.key', ((1, 2, 256, 16), (1, 2, 256, 16), (1, 2, 256, 16)))" in plan
    assert f"[{engine.workspace_bytes}]" in plan
    assert stages[0][:2] == ("verify", 0)
    assert ("build sm86 sm89 sm120, 256 tokens: start", 0, 1000) in stages
    assert ("build sm86 sm89 sm120, 256 tokens: Building engine", 50, 1000) in stages
    assert json.loads(json.dumps(report.to_json()))["engines"][0]["header"]["capacity"] == 256


def test_an_engine_for_each_context(artifact: Path, fake_tensorrt: Fake) -> None:
    fake_tensorrt(*RTX)
    stages: list[str] = []
    report = build(
        artifact, ["sm89"], contexts=[64, 128, 64], chunk=16, progress=lambda stage, *_: stages.append(stage)
    )
    assert [engine.header.capacity for engine in report.engines] == [64, 128]
    assert [header.capacity for _, header in engines(open_artifact(artifact))] == [128, 64]
    assert report.engines[0].header.profiles == (Shapes(16, 16), Shapes(1, 1))
    told = {stage.split(":")[0] for stage in stages}
    assert told == {"verify", "1 of 2, build sm89, 64 tokens", "2 of 2, build sm89, 128 tokens"}


def test_a_later_build_replaces_what_it_stands_for(artifact: Path, fake_tensorrt: Fake) -> None:
    fake_tensorrt(*RTX)
    build(artifact, ["sm89"], contexts=[64])
    build(artifact, ["sm86"], contexts=[128])
    build(artifact, ["sm86,sm89"], contexts=[64])
    build(artifact, ["sm86,sm89"], contexts=[64], chunk=8)
    opened = open_artifact(artifact)
    opened.verify()
    found = {(header.sms, header.capacity) for _, header in engines(opened)}
    assert found == {(("8.6",), 128), (("8.6", "8.9"), 64)}
    assert len([name for name in files(artifact) if name.startswith(FOLDER)]) == 2
    assert not (artifact / FOLDER / "sm89").exists()


def test_the_newest_engine_runs(artifact: Path, fake_tensorrt: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an older one stays, for other GPUs, and whatever their names are."""
    fake_tensorrt(*RTX)
    clock = itertools.count(1_790_000_000)
    monkeypatch.setattr(room, "time", SimpleNamespace(time=lambda: next(clock), perf_counter=lambda: 0.0))
    versions = {RTX[0]: RTX[1]}

    def runs(sm: str) -> list[tuple[str, int, int]]:
        plans = found_plans(open_artifact(artifact), sm, versions)[RTX[0]]
        return [(plan.form, plan.capacity, plan.profiles[0].tokens) for plan in plans]

    report = build(artifact, ["sm86,sm89,sm120"], contexts=[64, 128], chunk=16)
    assert [engine.header.built for engine in report.engines] == [1_790_000_000, 1_790_000_001]
    build(artifact, ["sm89"], contexts=[64], chunk=8)
    assert runs("8.9") == [("opset24", 64, 8), ("opset24", 128, 16)]
    assert runs("8.6") == [("opset24", 64, 16), ("opset24", 128, 16)]
    # A sequence cannot go on in another form: that of the newest is it.
    build(artifact, ["sm89"], contexts=[256], chunk=4, form="opset21")
    assert runs("8.9") == [("opset21", 256, 4)]
    assert len(runs("8.6")) == 2
    build(artifact, ["sm86,sm89"], contexts=[64], chunk=2)
    assert runs("8.9") == [("opset24", 64, 2), ("opset24", 128, 16)]
    headers = [header for _, header in engines(open_artifact(artifact))]
    told = {(h.sms, h.capacity): gone for h, gone in zip(headers, left_out(headers), strict=True)}
    assert told == {
        (("8.6", "8.9", "12.0"), 64): ("8.6", "8.9"),
        (("8.6", "8.9", "12.0"), 128): (),
        (("8.9",), 256): ("8.9",),
        (("8.6", "8.9"), 64): (),
    }


def alter(engine: Path) -> None:
    data = bytearray(engine.read_bytes())
    data[60] ^= 1
    engine.write_bytes(data)


def another_artifacts(engine: Path) -> None:
    header = replace(read_header(engine), artifact="ab" * 16)
    engine.write_bytes(header.dumps() + engine.read_bytes()[PLAN_OFFSET:])


@pytest.mark.parametrize(
    "damage",
    [alter, another_artifacts, lambda engine: engine.write_bytes(b"cut"), lambda engine: engine.unlink()],
    ids=["altered", "another's", "truncated", "deleted"],
)
def test_a_bad_engine_is_replaced(
    artifact: Path, fake_tensorrt: Fake, damage: Callable[[Path], None]
) -> None:
    fake_tensorrt(*RTX)
    engine = Path(build(artifact, ["sm89"], contexts=[64]).engines[0].path)
    damage(engine)
    assert len(list(open_artifact(artifact).faults())) == 1
    build(artifact, ["sm86,sm89"], contexts=[64], chunk=8)
    opened = open_artifact(artifact)
    opened.verify()
    assert [header.sms for _, header in engines(opened)] == [("8.6", "8.9")]
    assert not engine.exists()


def test_a_jetson_builds_for_itself(artifact: Path, fake_tensorrt: Fake, on_an_orin: None) -> None:
    fake_tensorrt("tensorrt", "10.3.0.30")
    (engine,) = build(artifact, ["jetson-orin-nano-8gb"], contexts=[64]).engines
    header = engine.header
    assert (header.flavour, header.version, header.sms) == ("tensorrt", "10.3.0.30", ("8.7",))
    assert header.form == "opset21"
    # No target is told: TensorRT builds for the GPU that is there.
    assert ", [], [" in Path(engine.path).read_bytes()[PLAN_OFFSET:].decode()


def test_a_newer_jetpack_gets_the_newer_form(artifact: Path, fake_tensorrt: Fake, on_an_orin: None) -> None:
    fake_tensorrt("tensorrt", "10.16.1")
    assert build(artifact, ["sm87"], contexts=[64]).engines[0].header.form == "opset24"


@pytest.mark.parametrize(
    ("mode", "error", "told"),
    [
        ("drop", EngineFailed, "drops an input in silence, and would compute something else: Unused Input"),
        ("refuse", EngineFailed, "TensorRT-RTX 1.7 does not read it: Non-zero zero point"),
        ("reshape", EngineFailed, r"input input_ids is \('INT64', \(1, 7\)\) in TensorRT's network"),
        ("none", EngineFailed, r"TensorRT-RTX 1.7 builds no engine: Cannot compile for target\(s\) sm75"),
        ("memory", MemoryBudgetError, "ran out of memory while it built for a cache of 64 tokens; give it"),
        ("killed", MemoryBudgetError, "ran out of memory and was ended"),
        ("die", EngineFailed, "the build ended with SIGABRT"),
    ],
)
def test_a_build_that_fails_leaves_nothing(
    artifact: Path, fake_tensorrt: Fake, mode: str, error: type[EdgeError], told: str
) -> None:
    fake_tensorrt(*RTX, mode)
    before = files(artifact)
    with pytest.raises(error, match=told):
        build(artifact, ["sm89"], contexts=[64])
    assert files(artifact) == before
    assert not (artifact / FOLDER).exists()


def test_a_build_that_is_interrupted_leaves_nothing(
    artifact: Path, fake_tensorrt: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt(*RTX)
    before = files(artifact)

    def interrupt(stage: str, done: int, total: int) -> None:
        if done and stage != "verify":
            assert [path.suffix for path in (artifact / FOLDER).iterdir()] == [".part"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(artifact, ["sm89"], contexts=[64], progress=interrupt)
    assert files(artifact) == before


def test_what_a_killed_build_left_is_cleared(artifact: Path, fake_tensorrt: Fake) -> None:
    fake_tensorrt(*RTX)
    (artifact / FOLDER).mkdir()
    (artifact / FOLDER / ".01234567.part").write_bytes(b"half")
    build(artifact, ["sm89"], contexts=[64])
    assert not list((artifact / FOLDER).glob(".*"))


def test_a_manifest_that_cannot_be_written_keeps_the_old(
    artifact: Path, fake_tensorrt: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt(*RTX)
    build(artifact, ["sm89"], contexts=[64])
    before = files(artifact)

    def full(part: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="the disk is full"):
        build(artifact, ["sm89"], contexts=[64], chunk=8)
    monkeypatch.undo()
    open_artifact(artifact).verify()
    assert files(artifact) == before


@pytest.mark.parametrize(
    ("targets", "options", "error", "told"),
    [
        ([], {}, InvalidArgument, "no target is named"),
        (["sm88"], {}, UnknownTarget, "did you mean"),
        (["sm75"], {}, TargetRefused, "int4 weights from sm80 on"),
        (["sm89,sm75"], {}, TargetRefused, "int4 weights from sm80 on"),
        (["dgx-spark"], {}, TargetRefused, "that board is aarch64"),
        (["jetson-orin-nano-8gb"], {}, TargetRefused, "on the Jetson itself"),
        (["sm110"], {}, TargetRefused, "on the Jetson itself"),
        (["sm89"], {"contexts": [0]}, InvalidArgument, "context is 0; this model takes from 1 to 256"),
        (["sm89"], {"contexts": [64, 257]}, InvalidArgument, "context is 257"),
        (["sm89"], {"chunk": 0}, InvalidArgument, "chunk is 0"),
        (["sm89"], {"form": "opset9"}, InvalidArgument, "it has: opset24, opset21"),
        (["sm89"], {"memory": 10**8}, MemoryBudgetError, "100 MB are allowed"),
    ],
)
def test_what_is_refused_before_anything_is_built(
    artifact: Path,
    fake_tensorrt: Fake,
    monkeypatch: pytest.MonkeyPatch,
    targets: list[str],
    options: dict[str, object],
    error: type[EdgeError],
    told: str,
) -> None:
    fake_tensorrt(*RTX)
    monkeypatch.setattr(room, "run", lambda *_: pytest.fail("it was built"))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    before = files(artifact)
    with pytest.raises(error, match=told):
        build(artifact, targets, **options)  # type: ignore[arg-type]
    assert files(artifact) == before


@pytest.mark.parametrize("name", ["tensorrt/opset24.onnx", "tensorrt/weights.bin"])
def test_what_is_built_from_is_checked(
    artifact: Path, fake_tensorrt: Fake, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fake_tensorrt(*RTX)
    monkeypatch.setattr(room, "run", lambda *_: pytest.fail("it was built"))
    data = bytearray((artifact / name).read_bytes())
    data[-1] ^= 1
    (artifact / name).write_bytes(data)
    # Only the form that is read.
    with pytest.raises(ArtifactCorrupt, match=f"{name} has changed"):
        build(artifact, ["sm89"])


def test_a_full_disk_is_no_matter_of_an_output(artifact: Path, fake_tensorrt: Fake) -> None:
    fake_tensorrt(*RTX)
    variant = open_artifact(artifact).manifest.variants[0]
    job = Job(
        flavour="tensorrt_rtx",
        graph=str(artifact / variant.model),
        capacity=64,
        profiles=(Shapes(1, 1),),
        sms=("8.9",),
        out="/dev/full",
        workspace=1 << 20,
        memory=None,
    )
    told = "/dev/full: the disk is full; free some room or build in a copy of the artifact on another disk"
    with pytest.raises(StorageError, match=f"^{told}$"):
        run(job, lambda *_: None)


def test_engines_are_removed(artifact: Path, fake_tensorrt: Fake) -> None:
    fake_tensorrt(*RTX)
    for targets, contexts in (("sm86,sm89", [64, 128]), ("sm120", [64])):
        build(artifact, [targets], contexts=contexts)
    before = files(artifact)
    for targets, told in ((["sm86"], "is for sm89 too: add sm89 to --target"), (["sm80"], "no such engine")):
        with pytest.raises(InvalidArgument, match=told):
            remove(artifact, targets)
    assert files(artifact) == before
    (artifact / FOLDER / "sm120").iterdir().__next__().write_bytes(b"damaged")
    assert [each.file_bytes for each in remove(artifact, ["rtx-5090"]).removed] == [7]
    remove(artifact, contexts=[64])
    opened = open_artifact(artifact)
    opened.verify()
    assert [(header.sms, header.capacity) for _, header in engines(opened)] == [(("8.6", "8.9"), 128)]
    assert sorted(path.name for path in (artifact / FOLDER).iterdir()) == ["sm86-sm89"]


def test_a_removal_leaves_a_whole_artifact_at_any_moment(
    artifact: Path, fake_tensorrt: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt(*RTX)
    build(artifact, ["sm89"], contexts=[64, 128])

    def stop(path: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", stop)
    with pytest.raises(KeyboardInterrupt):
        remove(artifact)
    open_artifact(artifact).verify()
    assert engines(open_artifact(artifact)) == []


def test_a_jetson_that_is_another_one(artifact: Path, on_an_orin: None) -> None:
    with pytest.raises(
        TargetRefused,
        match=r"its GPU is sm87; copy .*/m.edge there and run: edge build m.edge --target sm110 --context 64$",
    ):
        build(artifact, ["sm110"], contexts=[64])


def test_no_memory_for_it(artifact: Path, fake_tensorrt: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt(*RTX)
    monkeypatch.setattr(room, "available_bytes", lambda: 10**7)
    with pytest.raises(MemoryBudgetError, match="10 MB are free; close other programs"):
        build(artifact, ["sm89"])


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("sm89", r"module tensorrt_rtx is not installed; on x86-64 Linux .* 'edgewise\[tensorrt\]'"),
        ("sm87", "module tensorrt is not installed; on a Jetson .* sudo apt install nvidia-jetpack"),
    ],
)
def test_no_tensorrt(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, on_an_orin: None, target: str, told: str
) -> None:
    monkeypatch.setattr("export.tensorrt.installed.find_spec", lambda name: None)
    with pytest.raises(TensorRTMissing, match=told):
        build(artifact, [target])
    with pytest.raises(TensorRTMissing, match=told):
        sorted_targets([target])


def test_a_tensorrt_that_does_not_load(artifact: Path, fake_tensorrt: Fake, tmp_path: Path) -> None:
    fake_tensorrt(*RTX)
    (tmp_path / "modules/tensorrt_rtx/__init__.py").write_text("raise OSError('libcuda.so.1: no such file')")
    with pytest.raises(TensorRTMissing, match=r"cannot be loaded \(libcuda"):
        build(artifact, ["sm89"])


def test_too_old_a_jetpack(artifact: Path, fake_tensorrt: Fake, on_an_orin: None) -> None:
    fake_tensorrt("tensorrt", "8.6.2")
    with pytest.raises(EngineTooOld, match=r"TensorRT 8\.6 reads none"):
        build(artifact, ["sm87"])


def test_an_artifact_for_another_engine(tiny_artifact: Path, fake_tensorrt: Fake) -> None:
    fake_tensorrt(*RTX)
    with pytest.raises(EngineError, match="has no variant for engine 'tensorrt'"):
        build(tiny_artifact, ["sm89"])


def test_the_board_builds_its_own_later() -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    here, later = sorted_targets(["sm89,jetson-orin-nano-8gb"])
    assert [target.name for target in here] == ["sm89"]
    assert [target.name for target in later] == ["jetson-orin-nano-8gb"]


def test_another_engines_artifact_has_no_engines(artifact: Path, fake_tensorrt: Fake, tmp_path: Path) -> None:
    fake_tensorrt(*RTX)
    build(artifact, ["sm89"])
    convert(artifact, tmp_path / "cpu.edge", engine="cpu")
    assert engines(open_artifact(tmp_path / "cpu.edge")) == []
    assert not (tmp_path / "cpu.edge/tensorrt").exists()


def test_the_fingerprint_is_that_of_graph_and_weights(artifact: Path, fake_tensorrt: Fake) -> None:
    fake_tensorrt(*RTX)
    first = build(artifact, ["sm89"], contexts=[64]).engines[0].header
    second = build(artifact, ["sm86"], contexts=[64]).engines[0].header
    other = build(artifact, ["sm86"], contexts=[128], form="opset21").engines[0].header
    assert first.artifact == second.artifact != other.artifact
    same = {"sms": (), "built": 1, "plan_sha256": "", "plan_bytes": 1}
    assert replace(first, **same) == replace(second, **same)  # type: ignore[arg-type]
