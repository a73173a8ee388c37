"""The artifact's folder while it is made: a hidden sibling, renamed into place when whole."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.artifact import MANIFEST, FileEntry
from edge.errors import OutputExists
from export.graph.weights_file import storage_error

_PARTIAL, _REPLACED = ".partial", ".replaced"
_CHUNK = 4 << 20


@contextmanager
def artifact_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """A new empty folder that becomes `out` if the block ends well, and is removed if it does not.

    Raises:
        OutputExists: `out` is there and `force` is not given, or is no artifact.
        StorageError: the disk is full or refuses.
    """
    _check_free(out, force)
    partial = out.parent / f".{out.name}.{os.getpid()}{_PARTIAL}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(out)
        partial.mkdir()
    except OSError as e:
        raise storage_error(partial, e) from e
    try:
        yield partial
        _sync(partial)
        _check_free(out, force)
        _put(partial, out)
    except OSError as e:
        raise storage_error(out, e) from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8.

    Raises:
        StorageError
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise storage_error(path, e) from e


def list_files(folder: Path, progress: Callable[[int], None]) -> tuple[FileEntry, ...]:
    """Every file below `folder` with its size and sha256; `progress` is told the bytes read since the last call."""
    entries = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                progress(len(chunk))
        name = path.relative_to(folder).as_posix()
        entries.append(FileEntry(path=name, size=path.stat().st_size, sha256=digest.hexdigest()))
    return tuple(entries)


def _check_free(out: Path, force: bool) -> None:
    if not os.path.lexists(out):
        return
    if not force:
        raise OutputExists(f"{out} exists; choose another output with -o, or replace it with --force")
    if not out.is_dir() or out.is_symlink() or (any(out.iterdir()) and not (out / MANIFEST).is_file()):
        raise OutputExists(f"{out} exists and is no artifact, so --force does not replace it; choose another output")


def _put(partial: Path, out: Path) -> None:
    replaced = out.parent / f".{out.name}.{os.getpid()}{_REPLACED}"
    if out.exists():
        out.rename(replaced)
    try:
        partial.rename(out)
    except OSError:
        if replaced.exists():
            replaced.rename(out)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _remove_abandoned(out: Path) -> None:
    """Folders that an export to the same output left when it was killed: their process is gone."""
    for path in out.parent.glob(f".{out.name}.*{_PARTIAL}"):
        pid = path.name.removeprefix(f".{out.name}.").removesuffix(_PARTIAL)
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


