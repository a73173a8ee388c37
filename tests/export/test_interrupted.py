"""Exports that are stopped, killed, refused by the disk or two at a time: OUT is whole or not there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.artifact import open_artifact
from edge.errors import OutputExists, StorageError
from export import export


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("stage", ["int4", "checksums"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, BrokenPipeError])
@pytest.mark.parametrize("replacing", [False, True])
def test_an_export_stopped_in_the_middle_leaves_nothing(
    tiny_checkpoint: Path,
    tiny_artifact: Path,
    tmp_path: Path,
    stage: str,
    error: type[BaseException],
    replacing: bool,
) -> None:
    def stop(at: str, done: int, total: int) -> None:
        if at == stage and done > total // 2:
            raise error

    out = tmp_path / "out"
    if replacing:
        export(tiny_checkpoint, out, weights="int8")
    with pytest.raises(error):
        export(tiny_checkpoint, out, force=replacing, progress=stop)
    assert names(tmp_path) == (["out"] if replacing else [])
    if replacing:
        assert open_artifact(out).manifest.recipe["weights"] == "int8"


STOPPED = """
import os, sys
from export import export
def told(stage, done, total):
    if stage == sys.argv[4] and done:
        os.kill(os.getpid(), int(sys.argv[3]))
export(sys.argv[1], sys.argv[2], progress=told, method="rtn", fidelity=False)
"""


@pytest.mark.parametrize("stage", ["int4", "checksums"])
def test_a_killed_export_leaves_no_output_and_the_next_cleans_up(
    tiny_checkpoint: Path, tmp_path: Path, stage: str
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", STOPPED, str(tiny_checkpoint), str(out), str(int(signal.SIGKILL)), stage]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(".out.")
    assert left.endswith(".partial")
    export(tiny_checkpoint, out)
    open_artifact(out).verify()
    assert names(tmp_path) == ["out"]


def test_two_exports_at_once(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """One has the output, the other is told so; what is there is whole."""
    out, both = tmp_path / "out", threading.Barrier(2)
    results: list[Any] = []

    def run(weights: str) -> None:
        def told(stage: str, done: int, total: int) -> None:
            if done == 0:
                both.wait(30)  # both have begun, then both are about to end

        try:
            results.append(export(tiny_checkpoint, out, weights=weights, progress=told).weights)
        except OutputExists:
            results.append(None)

    threads = [threading.Thread(target=run, args=(weights,)) for weights in ("int8", "fp32")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    artifact = open_artifact(out)
    artifact.verify()
    assert sorted(results, key=str) == sorted([None, artifact.manifest.recipe["weights"]], key=str)
    assert names(tmp_path) == ["out"]


def test_every_refusal_of_the_disk_is_a_storage_error(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call that touches the output fails, then the second, and so on to the last."""
    calls = failing = 0

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            nonlocal calls
            if isinstance(path, int) or str(path).startswith(str(tmp_path)):
                calls += 1
                if calls == failing:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, *args, **options)

        return call

    while calls >= failing:
        calls, failing = 0, failing + 1
        out = tmp_path / f"{failing}" / "out"
        with monkeypatch.context() as patch:
            for name in ("open", "mkdir", "rename", "write_bytes", "iterdir"):
                patch.setattr(Path, name, guarded(getattr(Path, name)))
            for name in ("fsync", "open"):
                patch.setattr(os, name, guarded(getattr(os, name)))
            try:
                export(tiny_checkpoint, out)
            except StorageError as e:
                assert "the disk is full; free some room" in str(e)  # noqa: PT017 (some calls may fail)
        # Syncing a folder's names may fail; whatever did, the output is whole or there is nothing.
        if out.exists():
            open_artifact(out).verify()
            assert names(out.parent) == ["out"]
        else:
            assert not out.parent.exists()
    assert sum(1 for number in range(1, failing) if not (tmp_path / f"{number}").exists()) > 12


LIMITED = """
import os, resource, subprocess, sys
from export import export
from edge.errors import StorageError
source, place, kind, needed = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
for percent in (0, 1, 2, 5, 10, 20, 40, 60, 80, 95):
    room = max(4096, needed * percent // 100)
    if kind == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "none", place], check=True)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        export(source, place + "/out", method="rtn", fidelity=False)
    except StorageError as e:
        print("full" if "disk is full" in str(e) else "large" if "too large" in str(e) else e, os.listdir(place))
    else:
        print("fits", percent)
    if kind == "tmpfs":
        subprocess.run(["umount", place], check=True)
"""


def run_limited(command: list[str], source: Path, place: Path, kind: str, artifact: Path) -> list[str]:
    sizes = [path.stat().st_size for path in artifact.rglob("*") if path.is_file()]
    needed = sum(sizes) if kind == "tmpfs" else max(sizes)
    place.mkdir()
    command = [*command, sys.executable, "-c", LIMITED, str(source), str(place), kind, str(needed)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_file_system_that_is_full(tiny_checkpoint: Path, tiny_artifact: Path, tmp_path: Path) -> None:
    """A real one, mounted where only the exporting process sees it."""
    may = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=4096", "none", str(tmp_path)]
    try:
        tried = subprocess.run(may, capture_output=True, text=True)
    except FileNotFoundError as e:
        pytest.skip(f"no {e.filename} here to mount a small file system with")
    if tried.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {tried.stderr.strip()}")
    told = run_limited(["unshare", "--mount"], tiny_checkpoint, tmp_path / "disk", "tmpfs", tiny_artifact)
    assert told == ["full []"] * 10


def test_files_that_may_not_grow(tiny_checkpoint: Path, tiny_artifact: Path, tmp_path: Path) -> None:
    told = run_limited([], tiny_checkpoint, tmp_path / "disk", "limit", tiny_artifact)
    assert told == ["large []"] * 10


def test_an_export_into_a_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        export(tiny_checkpoint, tmp_path / "file" / "out")
