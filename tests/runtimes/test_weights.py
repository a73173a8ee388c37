"""The weights file of the cpu engine: its index is not believed, and it is in memory once."""

from __future__ import annotations

import gc
import json
import mmap
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge.artifact import Artifact, open_artifact
from edge.errors import ArtifactCorrupt, EngineFailed
from export import convert
from runtimes import Engine, Step, open_engine
from runtimes.kernels.weights import map_weights, read_index
from tests.export.sealed import sealed
from tests.runtimes.conformance import fresh, text
from tests.runtimes.large_artifact import write_large_artifact


@pytest.fixture
def artifact(tiny_artifact: Path, tmp_path: Path) -> Path:
    """An artifact for the cpu engine, to be spoilt."""
    convert(tiny_artifact, tmp_path / "cpu.edge", engine="cpu")
    return tmp_path / "cpu.edge"


@pytest.fixture(scope="session")
def large(kernels: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large_artifact(tmp_path_factory.mktemp("large") / "large.edge")


def spoilt(artifact: Path, change: Callable[[list[dict[str, Any]]], Any]) -> Artifact:
    """The artifact with its index changed, in place or by what `change` gives."""
    path = artifact / "cpu/weights.json"
    entries = json.loads(path.read_text())
    changed = change(entries)
    path.write_text(json.dumps(entries if changed is None else changed))
    return open_artifact(sealed(artifact))


def mapped(artifact: Artifact) -> dict[str, Any]:
    return map_weights(artifact, artifact.variant("cpu"))


def test_the_tensors_are_those_of_the_graph(artifact: Path) -> None:
    weights = mapped(open_artifact(artifact))
    graph = onnx.load(artifact / "cpu/model.onnx").graph
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer if t.name in weights}
    assert len(weights) > 10
    assert weights.keys() == expected.keys()
    for name, array in weights.items():
        assert array.dtype == expected[name].dtype
        assert not array.flags.writeable
        assert np.array_equal(array, expected[name])


def test_only_the_cpu_variant_has_an_index(artifact: Path, tiny_artifact: Path) -> None:
    assert "cpu/weights.json" in open_artifact(artifact).variant("cpu").files
    assert not (tiny_artifact / "onnxruntime/weights.json").exists()


def set_first(**changes: Any) -> Callable[[list[dict[str, Any]]], Any]:
    return lambda entries: entries[0].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: [], r"is \[\], expected a list of tensors"),
        (lambda e: {}, r"is \{\}, expected a list of tensors"),
        (lambda e: [7], "tensor 0 is 7, expected an object with name, type, shape, offset, length"),
        (lambda e: e[0].pop("length"), "expected an object with"),
        (set_first(extra=1), "expected an object with"),
        (set_first(name=5), "name is 5, expected a text"),
        (set_first(name=""), "name is '', expected a text"),
        (set_first(type="float64"), r"type is 'float64', expected float32 for 'rope\.cos'"),
        (set_first(type=["float32"]), "type is .*, expected float32"),
        (set_first(type="uint8"), "type is 'uint8', expected float32"),
        (set_first(name="a.panels"), r"type is 'float32', expected uint8 for 'a\.panels'"),
        (set_first(shape=[]), "shape is .*, expected 1 to 8 whole numbers above 0"),
        (set_first(shape=[1] * 9), "shape is .*, expected 1 to 8"),
        (set_first(shape=[True]), "shape is .*, expected 1 to 8"),
        (set_first(shape=[-4]), "shape is .*, expected 1 to 8"),
        (set_first(shape=[0]), "shape is .*, expected 1 to 8"),
        (set_first(shape=[2.0]), "shape is .*, expected 1 to 8"),
        (set_first(shape=[1 << 70]), "shape is .*, expected 1 to 8"),
        (set_first(shape=[1 << 62, 1 << 62]), "length is .*, expected .* bytes for"),
        (set_first(length=4), r"length is 4, expected \d+ bytes for"),
        (set_first(length=-1), "length is -1, expected a count"),
        (set_first(offset=-4096), "offset is -4096, expected a count"),
        (set_first(offset="0"), "offset is '0', expected a count"),
        (set_first(offset=True), "offset is True, expected a count"),
        (set_first(offset=1 << 70), "offset is .*, expected a count"),
        (set_first(offset=1 << 40), r"bytes from 1099511627776 on, in a file of \d+"),
        (set_first(offset=2), "offset is 2, expected a multiple of 64"),
        (set_first(offset=32), "offset is 32, expected a multiple of 64"),
        (lambda e: e[1].update(name=e[0]["name"]), "twice"),
    ],
)
def test_an_index_that_is_not_true(
    artifact: Path, change: Callable[[list[dict[str, Any]]], Any], message: str
) -> None:
    with pytest.raises(ArtifactCorrupt, match=rf"weights\.json.*{message}.*export the artifact again"):
        mapped(spoilt(artifact, change if message != "expected an object with" else wrapped(change)))


def wrapped(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[list[dict[str, Any]]], Any]:
    """`change` for what it does, not for what it gives."""

    def apply(entries: list[dict[str, Any]]) -> None:
        change(entries)

    return apply


@pytest.mark.parametrize("data", [b"", b"[{]", b"\xff\xfe", b"[NaN]", b"[" * 100_000], ids=range(5))
def test_an_index_that_is_no_json(artifact: Path, data: bytes) -> None:
    (artifact / "cpu/weights.json").write_bytes(data)
    with pytest.raises(ArtifactCorrupt, match=r"weights\.json is not JSON"):
        mapped(open_artifact(sealed(artifact)))


def test_an_index_without_end(tmp_path: Path) -> None:
    with (tmp_path / "weights.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArtifactCorrupt, match="larger than 16 MiB"):
        read_index(tmp_path / "weights.json", 4096)


def test_weights_cut_short_behind_the_check(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_artifact(artifact)
    weights = artifact / "cpu/weights.bin"
    real = os.open

    def cut_and_open(path: Any, *args: Any) -> int:
        if path == weights:
            os.truncate(path, 4096)
        return real(path, *args)

    monkeypatch.setattr(os, "open", cut_and_open)
    with pytest.raises(ArtifactCorrupt, match=r"weights\.bin has 4096 bytes, \d+ are needed"):
        mapped(opened)


@pytest.mark.parametrize("end", ["input_layernorm.weight", "rope.cos", "embed_tokens.panels"])
def test_a_tensor_shorter_than_the_operators_need(kernels: None, artifact: Path, end: str) -> None:
    def halve(entries: list[dict[str, Any]]) -> None:
        entry = next(entry for entry in entries if entry["name"].endswith(end))
        entry["shape"][0] //= 2
        entry["length"] //= 2

    with pytest.raises(EngineFailed, match=r"has the shape .* edge verify"):
        run_to_the_end(open_engine(spoilt(artifact, halve)))


def run_to_the_end(engine: Engine) -> None:
    """Past half the context, which a rotary table of half the size would do for."""
    cache = engine.new_cache()
    for _ in range(engine.context // 1000):
        engine.run([Step(text(1000), cache, [])])


def test_an_artifact_without_an_index_runs(kernels: None, artifact: Path) -> None:
    expected = fresh(open_engine(open_artifact(artifact)), text(20))
    manifest = json.loads((artifact / "edge.json").read_text())
    manifest["variants"][0]["files"].remove("cpu/weights.json")
    manifest["files"] = [f for f in manifest["files"] if f["path"] != "cpu/weights.json"]
    (artifact / "edge.json").write_text(json.dumps(manifest))
    (artifact / "cpu/weights.json").unlink()
    assert np.array_equal(fresh(open_engine(open_artifact(artifact)), text(20)), expected)


def test_huge_pages_are_asked_for_and_a_refusal_does_no_harm(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Refusing(mmap.mmap):
        def madvise(self, advice: int, *args: int) -> None:
            asked.append(advice)
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    assert mapped(open_artifact(artifact))
    assert asked == [mmap.MADV_HUGEPAGE]


def maps_of(artifact: Path) -> int:
    return Path("/proc/self/maps").read_text().count(f"{artifact}/cpu/weights.bin")


def test_the_map_lives_as_long_as_the_session(kernels: None, artifact: Path) -> None:
    engine = open_engine(open_artifact(artifact))
    gc.collect()
    assert maps_of(artifact) == 1
    fresh(engine, text(20))
    engine.close()
    engine.close()
    gc.collect()
    assert maps_of(artifact) == 0


LOAD = """
import re, sys
from edge.artifact import open_artifact
from runtimes import Step, open_engine

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1])

open_engine(open_artifact(sys.argv[1]), threads=2)  # what modules and operators take, before it is counted
before = anonymous()
engine = open_engine(open_artifact(sys.argv[2]), threads=2)
cache = engine.new_cache()
engine.run([Step([1], cache, [0])])
kept = anonymous() - before
blocks = re.split(r"\\n(?=[0-9a-f]+-[0-9a-f]+ )", open("/proc/self/smaps").read())
[block] = [b for b in blocks if f"{sys.argv[2]}/cpu/weights.bin" in b.split("\\n")[0]]
sizes = {key: int(kb) for key, kb in re.findall(r"(\\w+): +(\\d+) kB", block)}
print(kept, sizes["Rss"], sizes["Pss"], sizes["Anonymous"], flush=True)
sys.stdin.read()
"""


def load(tiny: Path, large: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A process that has run a token, and the kB that it holds: RssAnon; Rss, Pss and Anonymous of the map."""
    program = [sys.executable, "-c", LOAD, str(tiny), str(large)]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, [int(number) for number in process.stdout.readline().split()]


def test_weights_are_in_memory_once(artifact: Path, large: Path) -> None:
    size = (large / "cpu/weights.bin").stat().st_size // 1024
    assert size > 95_000
    one, (anonymous, resident, alone, private) = load(artifact, large)
    two, (_, _, shared, _) = load(artifact, large)
    for process in (one, two):
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert anonymous < 15_000
    assert private == 0
    assert resident > 0.9 * size
    # Two processes share what one had for itself.
    assert shared < 0.6 * alone


def test_the_export_leaves_no_small_pages_behind(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    from export import export

    dropped: list[str] = []

    def advise(fd: int, start: int, length: int, advice: int) -> None:
        assert (start, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        dropped.append(re.sub(r".*/", "", os.readlink(f"/proc/self/fd/{fd}")))
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fadvise", advise)
    export(tiny_checkpoint, tmp_path / "a.edge", engine="cpu")
    assert dropped == ["weights.bin"]
    export(tiny_checkpoint, tmp_path / "b.edge", engine="onnxruntime")
    assert dropped == ["weights.bin"]
