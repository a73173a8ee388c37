"""Where an engine goes: aside at first, then into the artifact, whose manifest names it from then on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edge.artifact import MANIFEST, Artifact, FileEntry, Manifest, open_artifact
from edge.artifact.engine_files import FOLDER, engine_name, is_engine, target_name, told_by_name
from edge.errors import EngineError
from export.folder import alone, replace_file, sha256_of
from export.graph.weights_file import writing
from runtimes.tensorrt.header import PLAN_OFFSET, EngineHeader, read_listed
from runtimes.tensorrt.jit_cache import SUFFIX as JIT

ELSEWHERE = "build in a copy of the artifact on another disk"
"""What to do where an engine cannot be written: a build has no output but the artifact."""
_PART = ".part"


@contextlib.contextmanager
def aside(artifact: Artifact) -> Iterator[Path]:
    """A file for a plan, with an empty page before it; it is gone after the block, unless `put` gave it a name.

    Raises:
        StorageError: the artifact cannot be written.
    """
    folder = artifact.path / FOLDER
    part = folder / f".{secrets.token_hex(4)}{_PART}"
    with writing(part, ELSEWHERE):
        folder.mkdir(parents=True, exist_ok=True)
        with alone(artifact.path):
            _remove_abandoned(folder)
            file = part.open("wb")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        with file:
            with writing(part, ELSEWHERE):
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
    with writing(artifact.path / FOLDER, ELSEWHERE):
        with part.open("r+b") as file:
            file.write(header.dumps())
            file.flush()
            os.fsync(file.fileno())
        digest = sha256_of(part)
        name = engine_name(header.sms, header.capacity, digest)
        entry = FileEntry(path=name, size=part.stat().st_size, sha256=digest)
        with alone(artifact.path):
            # Another build may have written it meanwhile.
            known_now = open_artifact(artifact.path, check_files=False)
            manifest = known_now.manifest
            old = [known for known in manifest.files if _replaced(known_now, known, header)]
            kept = [known for known in manifest.files if known not in old]
            files = tuple(sorted([*kept, entry], key=lambda each: each.path))
            with _named(part, artifact.path / name):
                _list(artifact.path, replace(manifest, files=files))
            for known in old:
                if known.path != name:
                    _remove(artifact.path / known.path)
    return artifact.path / name


def take_out(artifact: Artifact, chosen: Callable[[Artifact], Sequence[str]]) -> dict[str, int]:
    """Remove the engines that `chosen` names of the artifact as it is now; bytes of each, compiled kernels included.

    The manifest goes first, so that the artifact is whole at any moment.

    Raises:
        StorageError, ArtifactError, and what `chosen` raises
    """
    with writing(artifact.path / FOLDER, ELSEWHERE), alone(artifact.path):
        now = open_artifact(artifact.path, check_files=False)
        names = chosen(now)
        kept = tuple(entry for entry in now.manifest.files if entry.path not in names)
        _list(artifact.path, replace(now.manifest, files=kept))
        freed = {name: _nbytes(artifact.path / name) for name in names}
        for name in names:
            _remove(artifact.path / name)
        with contextlib.suppress(OSError):
            (artifact.path / FOLDER).rmdir()
    return freed


def _list(folder: Path, manifest: Manifest) -> None:
    replace_file(folder / MANIFEST, manifest.dumps().encode(), elsewhere=ELSEWHERE)


def _nbytes(engine: Path) -> int:
    """What an engine's files take; 0 of those that are not there."""
    return sum(each.stat().st_size for each in (engine, engine.with_suffix(JIT)) if each.is_file())


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


def _replaced(artifact: Artifact, known: FileEntry, header: EngineHeader) -> bool:
    if not is_engine(known.path):
        return False
    try:
        old = read_listed(artifact, known)
    except EngineError:
        # What is missing, damaged or another artifact's has its name to tell what it was for.
        targets, capacity = told_by_name(known.path)
        new = set(map(target_name, header.sms))
        return capacity == header.capacity and set(targets) <= new
    return (old.flavour, old.capacity) == (header.flavour, header.capacity) and set(old.sms) <= set(
        header.sms
    )


def _remove_abandoned(folder: Path) -> None:
    """What builds left that were killed: their files are not locked."""
    for path in folder.glob(f".*{_PART}"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
