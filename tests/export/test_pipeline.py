from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge
from edge.artifact import open_artifact
from edge.errors import CheckpointCorrupt, InvalidArgument, OutputExists, StorageError, TensorError
from export import export, pipeline
from export.graph import weight_store
from export.quantize import RoundToNearest
from tests.export.small import Tensors, small_checkpoint

Q = "model.layers.1.self_attn.q_proj.weight"
NORM = "model.layers.0.input_layernorm.weight"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_report_and_the_manifest_agree_with_the_disk(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "model-v1.5.edge"
    report = export(str(tiny_checkpoint), f"{out}/")
    artifact = open_artifact(out)
    artifact.verify()
    assert names(tmp_path) == ["model-v1.5.edge"]
    assert artifact.manifest.name == "model-v1.5"
    assert report.path == str(out)
    assert report.file_bytes == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert report.bits_per_weight == artifact.manifest.bits_per_weight
    assert report.to_json()["weights"] == "int4"


@pytest.mark.parametrize("weights", ["int4", "int8", "fp16", "fp32"])
@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("tied", [True, False])
def test_every_weight_is_counted_once(tmp_path: Path, weights: str, zero_points: bool, tied: bool) -> None:
    if zero_points and not weights.startswith("int"):
        with pytest.raises(InvalidArgument):
            export(tmp_path, tmp_path / "out", weights=weights, zero_points=True)
        assert names(tmp_path) == []
        return
    # 96 inputs are 3 blocks of 32: an odd number of 4-bit zero points a row.
    source = small_checkpoint(tmp_path / "source", tie_word_embeddings=tied)
    export(source, tmp_path / "out", weights=weights, zero_points=zero_points)
    manifest = open_artifact(tmp_path / "out").manifest
    assert sum(part.parameters for part in manifest.parts) == manifest.spec.parameters
    assert {part.name for part in manifest.parts} == {"embedding", "attention", "mlp", "norms"} | (
        set() if tied else {"head"}
    )
    nominal = {"int4": 5 + zero_points / 8, "int8": 9 + zero_points / 4, "fp16": 16, "fp32": 32}[weights]
    assert manifest.bits_per_weight == pytest.approx(nominal, abs=0.2)


@pytest.mark.parametrize("block", [32, 64, 128])
@pytest.mark.parametrize(("weights", "bits"), [("int4", 4), ("int8", 8)])
@pytest.mark.parametrize("zero_points", [False, True])
def test_inputs_that_are_no_whole_blocks(
    tmp_path: Path, block: int, weights: str, bits: int, zero_points: bool
) -> None:
    """Hidden size 72: the artifact computes what the same weights, rounded here, give in fp32."""
    sizes = {"hidden_size": 72, "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 200}

    def rounded(tensors: Tensors) -> None:
        for name, tensor in tensors.items():
            if tensor.ndim == 2:
                padded = np.pad(tensor, ((0, 0), (0, -tensor.shape[1] % block)))
                quantized = RoundToNearest().quantize(name, 0, padded, bits, block, zero_points)
                tensors[name] = np.ascontiguousarray(quantized.dequantize(bits)[:, : tensor.shape[1]])

    source = small_checkpoint(tmp_path / "source", **sizes)
    reference = small_checkpoint(tmp_path / "reference", rounded, **sizes)
    export(source, tmp_path / "a.edge", weights=weights, block=block, zero_points=zero_points)
    export(reference, tmp_path / "b.edge", weights="fp32")
    logits = []
    for name in ("a.edge", "b.edge"):
        with edge.load(tmp_path / name) as model:
            logits.append(model.logits([5, 100, 7, 200]))
    # Activations are rounded to 8 bits beside quantized weights.
    assert np.abs(logits[0] - logits[1]).max() < 0.05 * np.abs(logits[1]).max()


def test_a_tensor_that_is_all_zeros(tmp_path: Path) -> None:
    def silenced(tensors: Tensors) -> None:
        tensors[Q][:] = 0

    source = small_checkpoint(tmp_path / "source", silenced)
    for weights in ("int4", "int8", "fp16"):
        export(source, tmp_path / weights, weights=weights)
        with edge.load(tmp_path / weights) as model:
            assert np.isfinite(model.logits([1, 2, 3])).all()


@pytest.mark.parametrize("weights", ["int4", "int8", "fp16", "fp32"])
@pytest.mark.parametrize(
    ("name", "index", "value", "shown"),
    [
        (Q, (63, 5), np.nan, "nan"),
        (Q, (0, 0), np.inf, "inf"),
        ("model.embed_tokens.weight", (200, 63), -np.inf, "-inf"),
        (NORM, (7,), np.nan, "nan"),
    ],
)
def test_a_weight_that_is_no_number(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: str,
    name: str,
    index: tuple[int, ...],
    value: float,
    shown: str,
) -> None:
    monkeypatch.setattr(weight_store, "_ELEMENTS", 640)  # ten rows at a time

    def spoil(tensors: Tensors) -> None:
        tensors[name][index] = value

    source = small_checkpoint(tmp_path / "source", spoil)
    with pytest.raises(TensorError) as caught:
        export(source, tmp_path / "out", weights=weights)
    assert f"{name} holds {shown} at {list(index)}" in str(caught.value)
    assert names(tmp_path) == ["source"]


@pytest.mark.parametrize(
    ("weights", "value", "message"),
    [
        ("fp16", 65504.0, None),
        ("fp16", 7e4, "holds 70000 at .*more than the 65504 of fp16; export with --weights fp32"),
        ("fp16", -1e38, "more than the 65504 of fp16"),
        ("fp32", 1e38, None),
        ("int8", 1e14, None),
        ("int8", -1e38, "holds -1e\\+38 at .* damaged"),
        ("int4", 1e38, "holds 1e\\+38 at .* damaged"),
    ],
)
def test_a_weight_that_is_too_large(tmp_path: Path, weights: str, value: float, message: str | None) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors[Q][3, 4] = value

    source = small_checkpoint(tmp_path / "source", spoil)
    if message is None:
        export(source, tmp_path / "out", weights=weights)
        return
    with pytest.raises(TensorError, match=message):
        export(source, tmp_path / "out", weights=weights)
    assert names(tmp_path) == ["source"]


def test_nothing_tells_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small_checkpoint(tmp_path / "secret-place" / "tiny-llama")
    monkeypatch.chdir(source)
    for number, spelled in enumerate((source, f"{source}/", ".", "../tiny-llama")):
        out = tmp_path / f"{number}.edge"
        export(spelled, out)
        assert open_artifact(out).manifest.provenance["source"] == "tiny-llama"
        for file in out.rglob("*"):
            assert file.is_dir() or b"secret-place" not in file.read_bytes()


def test_a_hub_id_stays_whole(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pipeline.open_checkpoint

    def from_hub(source: str, progress: Any) -> Any:
        return replace(real(tiny_checkpoint), source=source)

    monkeypatch.setattr(pipeline, "open_checkpoint", from_hub)
    export("org/model@v2", tmp_path / "out")
    assert open_artifact(tmp_path / "out").manifest.provenance["source"] == "org/model@v2"


def test_progress_is_told_in_order_and_to_the_end(tiny_checkpoint: Path, tmp_path: Path) -> None:
    calls: dict[str, list[tuple[int, int]]] = {}
    threads = set()

    def told(stage: str, done: int, total: int) -> None:
        calls.setdefault(stage, []).append((done, total))
        threads.add(threading.current_thread())

    export(tiny_checkpoint, tmp_path / "out", progress=told)
    assert list(calls) == ["int4", "checksums"]
    for steps in calls.values():
        done = [step for step, _ in steps]
        assert done == sorted(done)
        assert (done[0], done[-1]) == (0, steps[0][1])
        assert len({total for _, total in steps}) == 1
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("stage", ["int4", "checksums"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, BrokenPipeError])
@pytest.mark.parametrize("replacing", [False, True])
def test_an_export_stopped_in_the_middle_leaves_nothing(
    tiny_checkpoint: Path,
    tiny_artifact: Path,
    tmp_path: Path,
    stage: str,
    error: type[BaseException],
    replacing: bool,
) -> None:
    def stop(at: str, done: int, total: int) -> None:
        if at == stage and done > total // 2:
            raise error

    out = tmp_path / "out"
    if replacing:
        export(tiny_checkpoint, out, weights="int8")
    with pytest.raises(error):
        export(tiny_checkpoint, out, force=replacing, progress=stop)
    assert names(tmp_path) == (["out"] if replacing else [])
    if replacing:
        assert open_artifact(out).manifest.recipe["weights"] == "int8"


STOPPED = """
import os, sys
from export import export
def told(stage, done, total):
    if stage == sys.argv[4] and done:
        os.kill(os.getpid(), int(sys.argv[3]))
export(sys.argv[1], sys.argv[2], progress=told)
"""


@pytest.mark.parametrize("stage", ["int4", "checksums"])
def test_a_killed_export_leaves_no_output_and_the_next_cleans_up(
    tiny_checkpoint: Path, tmp_path: Path, stage: str
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", STOPPED, str(tiny_checkpoint), str(out), str(int(signal.SIGKILL)), stage]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(".out.")
    assert left.endswith(".partial")
    export(tiny_checkpoint, out)
    open_artifact(out).verify()
    assert names(tmp_path) == ["out"]


def test_two_exports_at_once(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """One has the output, the other is told so; what is there is whole."""
    out, both = tmp_path / "out", threading.Barrier(2)
    results: list[Any] = []

    def run(weights: str) -> None:
        def told(stage: str, done: int, total: int) -> None:
            if done == 0:
                both.wait(30)  # both have begun, then both are about to end

        try:
            results.append(export(tiny_checkpoint, out, weights=weights, progress=told).weights)
        except OutputExists:
            results.append(None)

    threads = [threading.Thread(target=run, args=(weights,)) for weights in ("int8", "fp32")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    artifact = open_artifact(out)
    artifact.verify()
    assert sorted(results, key=str) == sorted([None, artifact.manifest.recipe["weights"]], key=str)
    assert names(tmp_path) == ["out"]


def test_every_refusal_of_the_disk_is_a_storage_error(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call that touches the output fails, then the second, and so on to the last."""
    calls, failing = 0, 0

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            nonlocal calls
            if isinstance(path, int) or str(path).startswith(str(tmp_path)):
                calls += 1
                if calls == failing:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, *args, **options)

        return call

    for name in ("open", "mkdir", "rename", "write_bytes", "iterdir"):
        monkeypatch.setattr(Path, name, guarded(getattr(Path, name)))
    for name in ("fsync", "open"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    refused = 0
    while True:
        calls, failing = 0, failing + 1
        try:
            export(tiny_checkpoint, tmp_path / "new/out")
        except StorageError as e:
            refused += 1
            assert "the disk is full; free some room" in str(e)  # noqa: PT017 (or it succeeds)
            failing, kept = 0, failing
            assert names(tmp_path) == []
            failing = kept
            continue
        open_artifact(tmp_path / "new/out").verify()
        if calls < failing:
            break
        subprocess.run(["rm", "-r", str(tmp_path / "new")], check=True)
    assert refused > 12


LIMITED = """
import os, resource, subprocess, sys
from export import export
from edge.errors import StorageError
source, place, kind, needed = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
for percent in (0, 1, 2, 5, 10, 20, 40, 60, 80, 95):
    room = max(4096, needed * percent // 100)
    if kind == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "none", place], check=True)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        export(source, place + "/out")
    except StorageError as e:
        print("full" if "disk is full" in str(e) else "large" if "too large" in str(e) else e, os.listdir(place))
    else:
        print("fits", percent)
    if kind == "tmpfs":
        subprocess.run(["umount", place], check=True)
"""


def run_limited(command: list[str], source: Path, place: Path, kind: str, artifact: Path) -> list[str]:
    sizes = [path.stat().st_size for path in artifact.rglob("*") if path.is_file()]
    needed = sum(sizes) if kind == "tmpfs" else max(sizes)
    place.mkdir()
    command = [*command, sys.executable, "-c", LIMITED, str(source), str(place), kind, str(needed)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_file_system_that_is_full(tiny_checkpoint: Path, tiny_artifact: Path, tmp_path: Path) -> None:
    """A real one, mounted where only the exporting process sees it."""
    may = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=4096", "none", str(tmp_path)]
    try:
        tried = subprocess.run(may, capture_output=True, text=True)
    except FileNotFoundError as e:
        pytest.skip(f"no {e.filename} here to mount a small file system with")
    if tried.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {tried.stderr.strip()}")
    told = run_limited(["unshare", "--mount"], tiny_checkpoint, tmp_path / "disk", "tmpfs", tiny_artifact)
    assert told == ["full []"] * 10


def test_files_that_may_not_grow(tiny_checkpoint: Path, tiny_artifact: Path, tmp_path: Path) -> None:
    told = run_limited([], tiny_checkpoint, tmp_path / "disk", "limit", tiny_artifact)
    assert told == ["large []"] * 10


def test_an_export_into_a_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        export(tiny_checkpoint, tmp_path / "file" / "out")


def test_a_chat_template_that_is_no_unicode(tmp_path: Path) -> None:
    source = small_checkpoint(tmp_path / "source")
    (source / "chat_template.jinja").unlink()
    (source / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>", "chat_template": "\\ud83d"}')
    with pytest.raises(CheckpointCorrupt, match="not Unicode"):
        export(source, tmp_path / "out")
    assert names(tmp_path) == ["source"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_generation_defaults_that_json_has_no_number_for(tmp_path: Path, value: str) -> None:
    """Refused, or left out: never an artifact that does not open."""
    source = small_checkpoint(tmp_path / "source")
    (source / "generation_config.json").write_text(f'{{"eos_token_id": 2, "temperature": {value}}}')
    try:
        export(source, tmp_path / "out")
    except CheckpointCorrupt:
        return
    assert open_artifact(tmp_path / "out").generation["eos_token_id"] == [2]
