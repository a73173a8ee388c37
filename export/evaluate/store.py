"""A report put into its artifact: written aside, renamed, and listed in the manifest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from edge.artifact import FIDELITY, MANIFEST, Artifact, FileEntry, Manifest, open_artifact
from edge.errors import InvalidArgument
from export.evaluate.page import page
from export.evaluate.report import PAGE, FidelityReport
from export.folder import replace_file


def store_report(measured: Artifact, report: FidelityReport) -> None:
    """Write fidelity.json and fidelity.html. Whenever it is interrupted, the artifact is whole.

    Raises:
        StorageError: the disk is full or refuses.
        InvalidArgument: it has become another artifact since it was measured.
    """
    data = {
        FIDELITY: (json.dumps(report.to_json(), indent=1) + "\n").encode(),
        PAGE: page(report).encode(),
    }
    folder, manifest = measured.path, open_artifact(measured.path).manifest
    others, before = (
        tuple(entry for entry in files if entry.path not in data)
        for files in (manifest.files, measured.manifest.files)
    )
    if others != before:
        raise InvalidArgument(f"{folder} was replaced while it was evaluated; evaluate it again")
    # Not listed while they change: a manifest never tells of other bytes than there are.
    if len(others) < len(manifest.files):
        _put(folder / MANIFEST, replace(manifest, files=others))
    for name, content in data.items():
        replace_file(folder / name, content)
    entries = tuple(
        FileEntry(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in data.items()
    )
    files = tuple(sorted((*others, *entries), key=lambda entry: entry.path))
    _put(folder / MANIFEST, replace(manifest, files=files))


def _put(path: Path, manifest: Manifest) -> None:
    replace_file(path, manifest.dumps().encode())
