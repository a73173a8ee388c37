"""Where an engine goes: aside at first, then into the artifact, whose manifest names it from then on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edge.artifact import MANIFEST, Artifact, FileEntry, open_artifact
from edge.errors import EngineError
from export.folder import alone, replace_file, sha256_of
from export.graph.weights_file import writing
from runtimes.tensorrt.header import FOLDER, PLAN_OFFSET, SUFFIX, EngineHeader, is_engine, read_header
from runtimes.tensorrt.jit_cache import SUFFIX as JIT

_PART = ".part"


@contextlib.contextmanager
def aside(artifact: Artifact) -> Iterator[Path]:
    """A file for a plan, with an empty page before it; it is gone after the block, unless `put` gave it a name.

    Raises:
        StorageError: the artifact cannot be written.
    """
    folder = artifact.path / FOLDER
    part = folder / f".{secrets.token_hex(4)}{_PART}"
    with writing(part):
        folder.mkdir(parents=True, exist_ok=True)
        with alone(artifact.path):
            _remove_abandoned(folder)
            file = part.open("wb")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        with file:
            with writing(part):
                file.truncate(PLAN_OFFSET)
            yield part
    finally:
        part.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()


def put(artifact: Artifact, part: Path, header: EngineHeader) -> Path:
    """Write the header before the plan, and give the file its name and the manifest its line; the engine's path.

    The new file has a name of its own, so that the artifact is whole at any moment. Engines that it replaces are
    removed: those of the same TensorRT and capacity all of whose GPUs it is for as well. Of what stays a GPU runs
    the newest.

    Raises:
        StorageError, ArtifactError
    """
    with writing(artifact.path / FOLDER):
        with part.open("r+b") as file:
            file.write(header.dumps())
            file.flush()
            os.fsync(file.fileno())
        digest = sha256_of(part)
        targets = "-".join(f"sm{sm.replace('.', '')}" for sm in header.sms)
        name = f"{FOLDER}/{targets}/{header.capacity}-{digest[:8]}{SUFFIX}"
        entry = FileEntry(path=name, size=part.stat().st_size, sha256=digest)
        with alone(artifact.path):
            # Another build may have written it meanwhile.
            manifest = open_artifact(artifact.path, check_files=False).manifest
            old = [known for known in manifest.files if _replaced(artifact.path, known.path, name, header)]
            kept = [known for known in manifest.files if known not in old]
            files = tuple(sorted([*kept, entry], key=lambda each: each.path))
            with _named(part, artifact.path / name):
                replace_file(artifact.path / MANIFEST, replace(manifest, files=files).dumps().encode())
            for known in old:
                if known.path != name:
                    _remove(artifact.path / known.path)
    return artifact.path / name


@contextlib.contextmanager
def _named(part: Path, path: Path) -> Iterator[None]:
    """`part` is `path` from now on; not if the block fails. A file of that name is the same one, by its hash."""
    there = path.exists()
    path.parent.mkdir(exist_ok=True)
    try:
        part.rename(path)
        yield
    except BaseException:
        if not there:
            _remove(path)
        raise


def _remove(path: Path) -> None:
    """An engine, and the kernels that were compiled for it."""
    for each in (path, path.with_suffix(JIT)):
        each.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def _replaced(folder: Path, known: str, name: str, header: EngineHeader) -> bool:
    if not is_engine(known):
        return False
    try:
        old = read_header(folder / known)
    except EngineError:
        # What cannot be read is replaced by what has its place.
        return known.rsplit("-", 1)[0] == name.rsplit("-", 1)[0]
    return (old.flavour, old.capacity) == (header.flavour, header.capacity) and set(old.sms) <= set(
        header.sms
    )


def _remove_abandoned(folder: Path) -> None:
    """What builds left that were killed: their files are not locked."""
    for path in folder.glob(f".*{_PART}"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
