"""Engine files by their names, and an artifact beside damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge.artifact import open_artifact
from edge.artifact.engine_files import build_again, engine_name, is_engine, told_by_name
from edge.errors import ArtifactCorrupt, UnsafePath
from tests.edge.artifact.samples import FILES as SAMPLE_FILES
from tests.edge.artifact.samples import VARIANT, entries, sample_manifest, write_artifact

NAME = engine_name(["8.6", "12.0"], 4096, "0123456789abcdef")
FILES = {**SAMPLE_FILES, NAME: b"engine"}
SAMPLE = replace(sample_manifest(), files=entries(FILES))


def test_which_files_are_engines() -> None:
    assert is_engine("tensorrt/engines/sm89/4096-abcd.engine")
    assert not is_engine("tensorrt/opset24.onnx")
    assert not is_engine("tensorrt/engines/sm89/notes.txt")


def test_a_name_tells_what_an_engine_is_for() -> None:
    assert NAME == "tensorrt/engines/sm86-sm120/4096-01234567.engine"
    assert told_by_name(NAME) == (("sm86", "sm120"), 4096)
    assert told_by_name("tensorrt/engines/$(reboot)/4096-01234567.engine") == ((), 0)


@pytest.mark.parametrize(
    ("path", "command"),
    [
        (f"my models/q.edge/{NAME}", "edge build 'my models/q.edge' --target sm86,sm120 --context 4096"),
        (NAME, "edge build . --target sm86,sm120 --context 4096"),
        ("q.edge/tensorrt/engines/$(reboot)/x.engine", "edge build q.edge --target GPU-OR-BOARD"),
    ],
)
def test_the_command_that_builds_it_again(path: str, command: str) -> None:
    assert build_again(Path(path)) == f"build it again with: {command}"


def remove(engine: Path) -> None:
    engine.unlink()


def truncate(engine: Path) -> None:
    engine.write_bytes(b"eng")


def alter(engine: Path) -> None:
    engine.write_bytes(b"enginE")


def make_a_folder(engine: Path) -> None:
    engine.unlink()
    engine.mkdir()


@pytest.mark.parametrize("damage", [remove, truncate, alter, make_a_folder])
def test_a_bad_engine_does_not_lock_the_artifact(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = write_artifact(tmp_path / "m.edge", SAMPLE, FILES)
    damage(path / NAME)
    opened = open_artifact(path)
    (fault,) = opened.faults()
    assert fault.startswith(f"{path / NAME} ")
    assert fault.endswith(f"build it again with: edge build {path} --target sm86,sm120 --context 4096")
    opened.verify(only=[name for name in FILES if name != NAME])


def test_weights_are_no_engine_by_their_name(tmp_path: Path) -> None:
    variant = replace(VARIANT, files=(*VARIANT.files, NAME))
    path = write_artifact(tmp_path / "m.edge", replace(SAMPLE, variants=(variant,)), FILES)
    truncate(path / NAME)
    with pytest.raises(ArtifactCorrupt, match="has 3 bytes"):
        open_artifact(path)


def test_an_engine_does_not_lead_out_of_the_artifact(tmp_path: Path) -> None:
    path = write_artifact(tmp_path / "m.edge", SAMPLE, FILES)
    (path / NAME).unlink()
    (path / NAME).symlink_to("/etc/passwd")
    with pytest.raises(UnsafePath):
        open_artifact(path)
