"""The process that builds, from outside: started, listened to, ended with whoever waits for it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from edge import errors
from edge.errors import EdgeError, EngineFailed, MemoryBudgetError
from export.tensorrt.job import Built, Job

# glibc keeps large blocks for later use otherwise: a fifth of a build's peak.
_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}
_TOLD = 2000


def run(job: Job, progress: Callable[[str, int, int], None]) -> Built:
    """Build in a process of its own; `progress` is called with (stage, thousandths done, 1000), and every second.

    Raises:
        EngineFailed: TensorRT refuses, or its process ends by itself.
        MemoryBudgetError: there was not enough memory.
        TensorRTMissing, ArtifactError
    """
    with tempfile.TemporaryFile() as stderr, _started(job, stderr.fileno()) as (child, lines):
        told: list[Any] = ["start", 0]
        for line in lines:
            if not line:
                progress(told[0], told[1], 1000)
                continue
            (what, value) = next(iter(json.loads(line).items()))
            if what == "progress":
                told = value
                progress(told[0], told[1], 1000)
            elif what == "built":
                return Built(**value)
            else:
                raise _error(*value)
        code = child.wait()
        stderr.seek(0, os.SEEK_END)
        stderr.seek(max(0, stderr.tell() - _TOLD))
        raise _ended(job, code, stderr.read().decode("utf-8", "replace"))


@contextlib.contextmanager
def _started(job: Job, stderr: int) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[bytes]]]:
    """The process and the lines it sends; it does not outlive the block."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "export.tensorrt.worker", str(writing)],
                stdin=subprocess.PIPE,
                stdout=stderr,
                stderr=stderr,
                pass_fds=(writing,),
                env={**os.environ, **_MALLOC, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                # Ctrl-C is for whoever waits; the builder would not hear of it.
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError), child.stdin as stdin:
                stdin.write(job.dumps().encode())
            yield child, _lines(pipe.fileno())
        finally:
            child.kill()
            child.wait()


def _lines(fd: int) -> Iterator[bytes]:
    """Lines up to the end; an empty one for each second without any."""
    held = b""
    while True:
        if not select.select([fd], [], [], 1.0)[0]:
            yield b""
            continue
        data = os.read(fd, 1 << 16)
        if not data:
            return
        *whole, held = (held + data).split(b"\n")
        yield from whole


def _error(kind: str, message: str) -> EdgeError:
    found = getattr(errors, kind, EngineFailed)
    error: EdgeError = found(message)
    return error


def _ended(job: Job, code: int, stderr: str) -> EdgeError:
    told = " ".join(stderr.split())[-400:]
    if code == -signal.SIGKILL or "bad_alloc" in stderr or "MemoryError" in stderr:
        return MemoryBudgetError(
            f"{job.graph}: the build for a cache of {job.capacity} tokens ran out of memory and was ended; close other "
            "programs, give it more with --memory, or build a smaller model"
        )
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    if job.memory is not None and code < 0:
        how += f", which may be for want of memory (it was given {job.memory / 1e6:.0f} MB)"
    return EngineFailed(f"{job.graph}: the build ended with {how}: {told or 'it does not say why'}")
