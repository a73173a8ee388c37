"""The process that builds an engine: python -m export.tensorrt.worker FD, with a job on stdin.

A process of its own: TensorRT takes one logger a process and cannot be interrupted, its memory is counted and limited
apart, and a builder that the system ends takes nobody along. Lines of JSON go to the file descriptor FD, since
TensorRT itself may write to stdout: {"progress": [stage, thousandths]}, then {"built": {...}} or
{"error": [type, message]}.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from edge.errors import EdgeError
from export.tensorrt.builder import Builder
from export.tensorrt.graph import read_graph
from export.tensorrt.installed import module
from export.tensorrt.job import Built, Job


def run(job: Job, out: TextIO) -> Built:
    """Build; progress goes to `out`.

    Raises:
        EdgeError
    """
    parent, last = os.getppid(), -1

    def progress(stage: str, fraction: float) -> bool:
        nonlocal last
        if (now := round(1000 * fraction)) != last:
            last = now
            _say(out, "progress", [stage, now])
        return os.getppid() == parent

    path = Path(job.graph)
    model = read_graph(path, job.capacity)
    builder = Builder(module(job.flavour))
    if job.memory is not None:
        _limit(job.memory)
    return builder.build(builder.network(model, path), model, job, progress)


def _limit(nbytes: int) -> None:
    """Allocate no more than so much: pages mapped from files do not count, which the system takes back."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = nbytes if hard == resource.RLIM_INFINITY else min(hard, nbytes)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _say(out: TextIO, what: str, value: Any) -> None:
    out.write(json.dumps({what: value}) + "\n")
    out.flush()


def main() -> None:
    """Command line."""
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as out:
        try:
            built = run(Job.loads(sys.stdin.read()), out)
        except EdgeError as e:
            _say(out, "error", [type(e).__name__, str(e)])
        except MemoryError:
            _say(
                out, "error", ["MemoryBudgetError", "the build ran out of memory; give it more with --memory"]
            )
        else:
            _say(out, "built", asdict(built))
        # What TensorRT holds need not be taken apart.
        out.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
