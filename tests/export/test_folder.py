from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from edge.artifact import open_artifact
from edge.errors import CheckpointCorrupt, OutputExists, StorageError
from export.folder import artifact_folder, list_files, write_text
from tests.edge.artifact.samples import sample_manifest, write_sample


def export_to(out: Path, *, force: bool = False, note: str = "new") -> None:
    """What an export does, in miniature."""
    with artifact_folder(out, force=force) as folder:
        write_sample(folder)
        (folder / "note").write_text(note)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "a.edge"
    with artifact_folder(out, force=False) as folder:
        assert folder.parent == tmp_path
        assert not out.exists()
        write_sample(folder)
    open_artifact(out).verify()
    assert names(tmp_path) == ["a.edge"]
    assert out.stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, StorageError, GeneratorExit])
def test_nothing_is_left_of_one_that_fails(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with artifact_folder(tmp_path / "new/parents/a.edge", force=False) as folder:
            write_sample(folder)
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == []


def test_parents_that_others_use_stay(tmp_path: Path) -> None:
    def fail() -> None:
        with artifact_folder(tmp_path / "new/a.edge", force=False):
            (tmp_path / "new/other").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path / "new") == ["other"]


def test_an_error_of_the_checkpoint_is_not_told_as_one_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), artifact_folder(tmp_path / "a.edge", force=False):
        raise PermissionError(errno.EACCES, "no", "/the/checkpoint")


@pytest.mark.parametrize(
    "kind", ["file", "folder", "foreign manifest", "link", "dangling link", "artifact", "empty"]
)
@pytest.mark.parametrize("force", [False, True])
def test_an_output_that_exists(tmp_path: Path, kind: str, force: bool) -> None:
    out = tmp_path / "a.edge"
    if kind == "file":
        out.write_text("mine")
    elif kind == "folder":
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
    elif kind == "foreign manifest":
        out.mkdir()
        (out / "edge.json").write_text('{"name": "my graph library"}')
        (out / "thesis.txt").write_text("mine")
    elif kind == "link":
        write_sample(tmp_path / "real.edge")
        out.symlink_to("real.edge")
    elif kind == "dangling link":
        out.symlink_to("nowhere")
    elif kind == "artifact":
        write_sample(out)
    else:
        out.mkdir()
    before = names(tmp_path)
    if force and kind in ("artifact", "empty"):
        export_to(out, force=True)
        assert (out / "note").read_text() == "new"
    else:
        with pytest.raises(OutputExists, match="is no artifact" if force else "exists; choose another"):
            export_to(out, force=force)
        assert not (out / "note").exists()
        assert kind in ("file", "empty", "dangling link") or names(out)
    assert names(tmp_path) == before


def test_force_replaces_an_artifact_of_a_later_format_or_with_files_missing(tmp_path: Path) -> None:
    out = write_sample(tmp_path / "a.edge")
    (out / "edge.json").write_text('{"format": 99}')
    (out / "tokenizer.json").unlink()
    export_to(out, force=True)
    open_artifact(out).verify()


@pytest.mark.parametrize("name", ["a.edge", "[ab]*.edge", "üñ 名.edge", ".hidden"])
def test_what_a_killed_export_left_is_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / f".{name}.0123abcd.partial/onnxruntime").mkdir(parents=True)
    others = [".other.edge.0123abcd.partial", f".{name}.mine.partial", f".{name}.0123abcd.backup"]
    for other in others:
        (tmp_path / other).mkdir()
    export_to(tmp_path / name)
    assert names(tmp_path) == sorted([name, *others])


@pytest.mark.parametrize("force", [False, True])
def test_an_artifact_set_aside_by_a_killed_export_is_put_back(tmp_path: Path, force: bool) -> None:
    out = tmp_path / "a.edge"
    write_sample(tmp_path / ".a.edge.0123abcd.replaced")
    if force:
        export_to(out, force=True)
    else:
        with pytest.raises(OutputExists):
            export_to(out)
    open_artifact(out).verify()
    assert (out / "note").exists() == force
    assert names(tmp_path) == ["a.edge"]


def test_a_replaced_artifact_that_was_not_removed_goes(tmp_path: Path) -> None:
    export_to(tmp_path / "a.edge", note="old")
    write_sample(tmp_path / ".a.edge.0123abcd.replaced")
    export_to(tmp_path / "a.edge", force=True)
    assert (tmp_path / "a.edge/note").read_text() == "new"
    assert names(tmp_path) == ["a.edge"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), KeyboardInterrupt()])
def test_an_artifact_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    out = write_sample(tmp_path / "a.edge")
    rename = Path.rename

    def failing(path: Path, target: Any) -> Any:
        if path.name.endswith(".partial"):
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((StorageError, KeyboardInterrupt)):
        export_to(out, force=True)
    open_artifact(out).verify()
    assert not (out / "note").exists()
    assert names(tmp_path) == ["a.edge"]


@pytest.mark.parametrize("force", [False, True])
def test_two_exports_to_one_output(tmp_path: Path, force: bool) -> None:
    """Neither removes the other's work; without --force the first to end has the place."""
    out = tmp_path / "a.edge"

    def both() -> None:
        with artifact_folder(out, force=force) as slow:
            write_sample(slow)
            (slow / "note").write_text("slow")
            export_to(out, force=force, note="quick")
            assert (slow / "note").exists()

    if force:
        both()
    else:
        with pytest.raises(OutputExists):
            both()
    open_artifact(out).verify()
    assert (out / "note").read_text() == ("slow" if force else "quick")
    assert names(tmp_path) == ["a.edge"]


def test_an_output_that_no_file_system_takes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / ("x" * 300), tmp_path / "file/a.edge", tmp_path / "file/new/a.edge"):
        with pytest.raises(StorageError, match="cannot be written"):
            export_to(out)
    assert names(tmp_path) == ["file"]


def test_the_current_folder_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").touch()
    for out in (Path(), Path("."), Path("../") / tmp_path.name, Path("/")):
        with pytest.raises(OutputExists):
            export_to(out, force=True)
    assert names(tmp_path) == ["mine"]


def test_text_that_is_no_unicode(tmp_path: Path) -> None:
    with pytest.raises(CheckpointCorrupt, match=r"text of chat_template\.jinja is not Unicode"):
        write_text(tmp_path / "chat_template.jinja", "half a pair: \ud83d")


def test_files_are_listed_with_sizes_and_hashes(tmp_path: Path) -> None:
    write_sample(tmp_path / "a")
    (tmp_path / "a/edge.json").unlink()
    done: list[int] = []
    listed = list_files(tmp_path / "a", done.append)
    assert listed == sample_manifest().files
    assert sum(done) == sum(entry.size for entry in listed)
