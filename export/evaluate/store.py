"""The report put into its artifact, which is whole at every moment."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edge.artifact import MANIFEST, Artifact, FileEntry, Manifest, open_artifact
from edge.artifact.fidelity import FIDELITY_FILES, FIDELITY_HTML, FIDELITY_JSON
from edge.errors import ArtifactError, StorageError
from export.evaluate.page import page
from export.evaluate.report import FidelityReport


def write_report(artifact: Artifact, report: FidelityReport) -> None:
    """Write fidelity.json and fidelity.html, and list them in the manifest; an earlier report is replaced.

    Everything is on the disk before the first name changes. Then the manifest lets go of the earlier report, the new
    one takes its place, and the manifest lists it: whoever opens the artifact in between, or after the computer has
    stopped there, finds it whole.

    Raises:
        ArtifactError: the artifact is another one by now.
        StorageError: the disk is full or refuses. In both cases the artifact is as it was.
    """
    folder = artifact.path
    files = {FIDELITY_JSON: report.dumps().encode(), FIDELITY_HTML: page(report.to_json()).encode()}
    with _writing(folder), _alone(folder):
        now = open_artifact(folder, check_files=False).manifest
        bare = _without_report(now)
        if bare != _without_report(artifact.manifest):
            raise ArtifactError(
                f"{folder} was replaced while it was evaluated, so the report was not written; evaluate it again"
            )
        entries = [
            FileEntry(path=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for name, data in files.items()
        ]
        listed = tuple(sorted((*bare.files, *entries), key=lambda entry: entry.path))
        full = replace(bare, files=listed)
        # The manifest twice: the one that knows no report is there only while names change.
        steps = [(MANIFEST, bare.dumps().encode()), *files.items(), (MANIFEST, full.dumps().encode())]
        written: list[Path] = []
        try:
            for name, data in steps if bare != now else steps[1:]:
                written.append(folder / f".{name}.{secrets.token_hex(4)}.partial")
                _write(written[-1], data)
            for path, (name, _) in zip(written, steps[-len(written) :], strict=True):
                path.rename(folder / name)
            _sync_folder(folder)
        finally:
            for path in written:
                path.unlink(missing_ok=True)


def _without_report(manifest: Manifest) -> Manifest:
    return replace(
        manifest, files=tuple(entry for entry in manifest.files if entry.path not in FIDELITY_FILES)
    )


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        full = e.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full; free some room" if full else f"it cannot be written ({e.strerror or e})"
        raise StorageError(
            f"{folder}: {why}; --no-write prints the report without keeping it, and the artifact is as it was"
        ) from e


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other evaluation writes its report there meanwhile, where the file system has locks."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    """Make the names in `folder` last, where the file system can."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
