"""The artifact's folder while it is made: a hidden sibling, renamed into place when whole."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.artifact import FileEntry, open_any
from edge.errors import ArtifactError, ArtifactTooNew, CheckpointCorrupt, OutputExists
from export.graph.weights_file import writing
from export.graph.weights_index import NAME as INDEX
from export.variant import WEIGHTS

_PARTIAL, _REPLACED = ".partial", ".replaced"
_CHUNK = 4 << 20


@contextlib.contextmanager
def artifact_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """A new empty folder that becomes `out` if the block ends well, and is removed if it does not.

    Raises:
        OutputExists: `out` is there and `force` is not given, or is no artifact.
        StorageError: the disk is full or refuses.
    """
    out = Path(os.path.abspath(out))
    partial = out.parent / f".{out.name}.{secrets.token_hex(4)}{_PARTIAL}"
    new_parents: list[Path] = []
    with contextlib.ExitStack() as stack:
        # Registered first, so run last: nothing is left, not even folders made on the way to `out`.
        stack.callback(_remove_empty, new_parents)
        with writing(out):
            new_parents += [parent for parent in out.parents if not parent.exists()]
            out.parent.mkdir(parents=True, exist_ok=True)
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            with alone(out.parent):
                _remove_abandoned(out)
                _check_free(out, force)
                partial.mkdir()
                stack.enter_context(locked(partial))
        yield partial
        with writing(out):
            _sync(partial)
            with alone(out.parent):
                _check_free(out, force)
                _put(partial, out)
                _sync_folder(out.parent)


def write_text(path: Path, text: str) -> int:
    """Write `text` as UTF-8; the number of bytes.

    Raises:
        CheckpointCorrupt: it holds half a surrogate pair.
        StorageError
    """
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise CheckpointCorrupt(
            f"the text of {path.name} is not Unicode ({e.reason}); "
            "get the checkpoint again from its publisher"
        ) from None
    with writing(path):
        return path.write_bytes(data)


def replace_file(path: Path, content: bytes, **advice: str) -> None:
    """Write a file aside, and give it its name when it is whole and on the disk; `advice` as `writing` takes it.

    Raises:
        StorageError
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing(path, **advice):
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal digits.

    Raises:
        StorageError: it cannot be read back.
    """
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def list_files(folder: Path, progress: Callable[[int], None]) -> tuple[FileEntry, ...]:
    """Every file below `folder` with size and sha256; `progress` is told the bytes since the last call.

    Raises:
        StorageError: one cannot be read back.
    """
    entries = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest, size = hashlib.sha256(), 0
        for chunk in _chunks(path):
            digest.update(chunk)
            size += len(chunk)
            progress(len(chunk))
        name = path.relative_to(folder).as_posix()
        entries.append(FileEntry(path=name, size=size, sha256=digest.hexdigest()))
    return tuple(entries)


def _chunks(path: Path) -> Iterator[bytes]:
    with writing(path), path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _check_free(out: Path, force: bool) -> None:
    if not os.path.lexists(out):
        return
    if not force:
        raise OutputExists(f"{out} exists; choose another output with -o, or replace it with --force")
    if not _replaceable(out):
        raise OutputExists(
            f"{out} exists and is no artifact, so --force does not replace it; "
            "remove it or choose another output"
        )


def _replaceable(out: Path) -> bool:
    """An artifact, or a folder with nothing in it."""
    if out.is_symlink() or not out.is_dir():
        return False
    try:
        open_any(out, check_files=False)
    except ArtifactTooNew:
        return True
    except ArtifactError:
        return not any(out.iterdir())
    return True


def _put(partial: Path, out: Path) -> None:
    replaced = out.parent / f".{out.name}.{secrets.token_hex(4)}{_REPLACED}"
    if not out.exists():
        partial.rename(out)
        return
    out.rename(replaced)
    try:
        partial.rename(out)
    except BaseException:
        replaced.rename(out)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _remove_abandoned(out: Path) -> None:
    """What an export to the same output left when it was killed; an artifact it had set aside is put back."""
    for path in _siblings(out, _REPLACED):
        if os.path.lexists(out):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.rename(out)
    for path in _siblings(out, _PARTIAL):
        with contextlib.suppress(OSError), locked(path) as ours:
            if ours:
                shutil.rmtree(path, ignore_errors=True)


def _siblings(out: Path, suffix: str) -> list[Path]:
    name = re.compile(rf"{re.escape(f'.{out.name}.')}[0-9a-f]{{8}}{re.escape(suffix)}")
    return [path for path in out.parent.iterdir() if name.fullmatch(path.name)]


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other export or build changes what is in `folder` meanwhile, where the file system has locks."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder, which says that its export lives; whether it was to be had."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = True
        except OSError:
            ours = False
        yield ours
    finally:
        os.close(fd)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                if path.name == WEIGHTS and path.with_name(INDEX).exists():
                    _drop_cached(file.fileno())
        else:
            _sync_folder(path)
    _sync_folder(folder)


def _drop_cached(fd: int) -> None:
    """Forget the pages of a file that is on the disk, where the system can."""
    # They are small ones: read again by the first load they come in large pieces, which are mapped as huge pages.
    with contextlib.suppress(OSError, AttributeError):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _sync_folder(folder: Path) -> None:
    """Make the names in `folder` last, where the file system can."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
