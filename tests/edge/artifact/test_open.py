from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.artifact import FORMAT, open_artifact
from edge.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactNotFound,
    ArtifactTooNew,
    EngineError,
    UnsafePath,
)
from tests.edge.artifact.samples import FILES, put, sample_json, sample_manifest, write_sample

WEIGHTS = "onnxruntime/weights.bin"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "sample.edge")


def rewrite(artifact: Path, **values: Any) -> None:
    data = sample_json()
    for key, value in values.items():
        put(data, key.replace("__", "."), value)
    (artifact / "edge.json").write_text(json.dumps(data))


def test_a_whole_artifact_opens_and_verifies(artifact: Path) -> None:
    opened = open_artifact(str(artifact))
    assert opened.manifest == sample_manifest()
    assert opened.spec.layers == 2
    assert opened.tokenizer_json == "{}"
    assert opened.chat_template is None
    assert opened.generation == {"eos_token_id": [2]}
    assert opened.variant("onnxruntime").model == "onnxruntime/model.onnx"
    assert opened.file(WEIGHTS) == artifact / WEIGHTS
    done: list[int] = []
    opened.verify(done.append)
    assert sum(done) == sum(map(len, FILES.values()))


def test_an_artifact_may_be_reached_by_a_link(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "link.edge").symlink_to(artifact)
    open_artifact(tmp_path / "link.edge").verify()


def test_a_link_inside_the_artifact_is_no_harm(artifact: Path) -> None:
    (artifact / WEIGHTS).rename(artifact / "moved.bin")
    (artifact / WEIGHTS).symlink_to("../moved.bin")
    open_artifact(artifact).verify()


def test_an_engine_without_a_variant(artifact: Path) -> None:
    with pytest.raises(EngineError, match=r"no variant for engine 'tensorrt' \(it has: onnxruntime\)"):
        open_artifact(artifact).variant("tensorrt")


def test_a_file_that_is_not_listed(artifact: Path) -> None:
    (artifact / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactCorrupt, match=r"lists no notes\.txt"):
        open_artifact(artifact).file("notes.txt")


def remove(artifact: Path) -> None:
    shutil.rmtree(artifact)


def only_a_file(artifact: Path) -> None:
    shutil.rmtree(artifact)
    artifact.write_text("{}")


def dangling(artifact: Path) -> None:
    artifact.rename(artifact.parent / "aside")
    artifact.symlink_to("nowhere")


def no_manifest(artifact: Path) -> None:
    (artifact / "edge.json").unlink()


def manifest_is_a_folder(artifact: Path) -> None:
    no_manifest(artifact)
    (artifact / "edge.json").mkdir()


def manifest_is_a_fifo(artifact: Path) -> None:
    no_manifest(artifact)
    os.mkfifo(artifact / "edge.json")


def manifest_is_a_loop(artifact: Path) -> None:
    no_manifest(artifact)
    (artifact / "edge.json").symlink_to("edge.json")


def manifest_is_a_link_out(artifact: Path) -> None:
    (artifact / "edge.json").rename(artifact.parent / "edge.json")
    (artifact / "edge.json").symlink_to("../edge.json")


def manifest_is_not_utf8(artifact: Path) -> None:
    (artifact / "edge.json").write_bytes(b'{"format": "\xff"}')


def manifest_is_huge(artifact: Path) -> None:
    os.truncate(artifact / "edge.json", (64 << 20) + 1)


def manifest_is_newer(artifact: Path) -> None:
    rewrite(artifact, format=FORMAT + 1)


def missing_file(artifact: Path) -> None:
    (artifact / WEIGHTS).unlink()


def missing_folder(artifact: Path) -> None:
    shutil.rmtree(artifact / "onnxruntime")


def shortened(artifact: Path) -> None:
    (artifact / WEIGHTS).write_bytes(b"w" * 99)


def longer(artifact: Path) -> None:
    (artifact / WEIGHTS).write_bytes(b"w" * 101)


def file_is_a_folder(artifact: Path) -> None:
    missing_file(artifact)
    (artifact / WEIGHTS).mkdir()


def file_is_a_fifo(artifact: Path) -> None:
    missing_file(artifact)
    os.mkfifo(artifact / WEIGHTS)


def file_is_a_loop(artifact: Path) -> None:
    missing_file(artifact)
    (artifact / WEIGHTS).symlink_to("weights.bin")


def file_is_a_link_out(artifact: Path) -> None:
    (artifact / WEIGHTS).rename(artifact.parent / "weights.bin")
    (artifact / WEIGHTS).symlink_to("../../weights.bin")


def file_is_a_dangling_link_out(artifact: Path) -> None:
    missing_file(artifact)
    (artifact / WEIGHTS).symlink_to("/no/such/place")


def folder_is_a_link_out(artifact: Path) -> None:
    (artifact / "onnxruntime").rename(artifact.parent / "elsewhere")
    (artifact / "onnxruntime").symlink_to("../elsewhere")


def a_folder_in_the_way(artifact: Path) -> None:
    shutil.rmtree(artifact / "onnxruntime")
    (artifact / "onnxruntime").write_bytes(b"")


HOSTILE: list[tuple[Callable[[Path], None], type[ArtifactError], str]] = [
    (remove, ArtifactNotFound, "does not exist"),
    (only_a_file, ArtifactNotFound, "is a file, not an artifact folder"),
    (dangling, ArtifactNotFound, "sample.edge"),
    (no_manifest, ArtifactNotFound, "holds no edge.json"),
    (manifest_is_a_folder, ArtifactNotFound, "holds no edge.json"),
    (manifest_is_a_fifo, ArtifactNotFound, "holds no edge.json"),
    (manifest_is_a_loop, ArtifactNotFound, "holds no edge.json"),
    (manifest_is_a_link_out, UnsafePath, "edge.json is a link out of the artifact"),
    (manifest_is_not_utf8, ArtifactCorrupt, "not UTF-8"),
    (manifest_is_huge, ArtifactCorrupt, "larger than 64 MiB"),
    (manifest_is_newer, ArtifactTooNew, "upgrade"),
    (missing_file, ArtifactCorrupt, r"weights\.bin is missing"),
    (missing_folder, ArtifactCorrupt, r"model\.onnx is missing"),
    (shortened, ArtifactCorrupt, r"weights\.bin has 99 bytes, the manifest says 100"),
    (longer, ArtifactCorrupt, r"weights\.bin has 101 bytes"),
    (file_is_a_folder, ArtifactCorrupt, r"weights\.bin is no regular file"),
    (file_is_a_fifo, ArtifactCorrupt, r"weights\.bin is no regular file"),
    (file_is_a_loop, ArtifactCorrupt, r"weights\.bin is missing"),
    (file_is_a_link_out, UnsafePath, r"weights\.bin is a link out of the artifact, to /"),
    (file_is_a_dangling_link_out, UnsafePath, "to /no/such/place"),
    (folder_is_a_link_out, UnsafePath, r"model\.onnx is a link out"),
    (a_folder_in_the_way, ArtifactCorrupt, r"model\.onnx is missing"),
]


@pytest.mark.parametrize(
    ("spoil", "error", "message"), HOSTILE, ids=[spoil.__name__ for spoil, *_ in HOSTILE]
)
def test_a_hostile_folder_is_refused(
    artifact: Path, spoil: Callable[[Path], None], error: type[ArtifactError], message: str
) -> None:
    spoil(artifact)
    with pytest.raises(error, match=message) as caught:
        open_artifact(artifact)
    assert type(caught.value) is error
    assert str(artifact) in str(caught.value) or error is ArtifactTooNew


@pytest.mark.parametrize("check_files", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "a/../tokenizer.json",
        "..",
        ".",
        "",
        "/etc/passwd",
        "//etc/passwd",
        "./tokenizer.json",
        "a//b",
        "a/",
        "..\\x",
        "a\\b",
        "C:\\x",
        "nul\0",
        "line\nbreak",
        "\x1b[2J",
        "\ud800",
        "right\u202eleft",
    ],
)
def test_a_name_that_is_no_plain_path(artifact: Path, name: str, check_files: bool) -> None:
    (artifact.parent / "x").write_bytes(b"")
    rewrite(artifact, files__0__path=name)
    with pytest.raises(UnsafePath, match="no plain path inside the artifact") as caught:
        open_artifact(artifact, check_files=check_files)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000 + "x"], ids=["name", "path"])
def test_a_name_too_long_for_the_file_system(artifact: Path, name: str) -> None:
    rewrite(artifact, files__0__path=name)
    with pytest.raises(ArtifactCorrupt, match="too long"):
        open_artifact(artifact)


@pytest.mark.parametrize("path", ["x" * 300, "x/" * 3000, "nul\0"])
def test_an_artifact_that_no_file_system_has(path: str) -> None:
    with pytest.raises(ArtifactNotFound):
        open_artifact(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_manifest_that_may_not_be_read(artifact: Path) -> None:
    (artifact / "edge.json").chmod(0)
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        open_artifact(artifact)


def test_verify_names_every_bad_file(artifact: Path) -> None:
    (artifact / WEIGHTS).write_bytes(b"w" * 99 + b"x")
    opened = open_artifact(artifact)
    (artifact / "tokenizer.json").unlink()
    shortened_file = artifact / "generation.json"
    shortened_file.write_bytes(b"{}")
    with pytest.raises(ArtifactCorrupt) as caught:
        opened.verify()
    for words in ("weights.bin has changed", "tokenizer.json is missing", "generation.json has 2 bytes"):
        assert words in str(caught.value)
    assert "model.onnx" not in str(caught.value)


def test_faults_of_an_artifact_opened_unchecked(artifact: Path) -> None:
    missing_folder(artifact)
    opened = open_artifact(artifact, check_files=False)
    assert [fault.split(" is missing")[0] for fault in opened.faults()] == [
        str(artifact / "onnxruntime/model.onnx"),
        str(artifact / WEIGHTS),
    ]


def test_a_file_swapped_after_opening_is_not_read(artifact: Path) -> None:
    opened = open_artifact(artifact)
    (artifact / "tokenizer.json").unlink()
    os.mkfifo(artifact / "tokenizer.json")
    with pytest.raises(ArtifactCorrupt, match="no regular file"):
        _ = opened.tokenizer_json


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "nests too deeply"),
        (b'{"temperature": NaN}', "no finite number"),
        (b"[]", "holds no object"),
        (b"\xff", "cannot be read"),
    ],
)
def test_generation_defaults_that_are_none(artifact: Path, data: bytes, message: str) -> None:
    (artifact / "generation.json").write_bytes(data)
    rewrite(artifact, files__0__size=len(data))
    with pytest.raises(ArtifactCorrupt, match=message):
        _ = open_artifact(artifact).generation


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_of_a_name_is_opened_or_refused(artifact: Path, data: st.DataObject) -> None:
    name = data.draw(st.text(max_size=8) | st.sampled_from(["../x", "a/b", "onnxruntime", "edge.json"]))
    files = (replace(sample_manifest().files[0], path=name, size=data.draw(st.integers(0, 64))),)
    (artifact / "edge.json").write_text(replace(sample_manifest(), files=files, variants=()).dumps())
    try:
        opened = open_artifact(artifact)
    except ArtifactError:
        return
    assert list(opened.faults())
