"""What happens under a hard limit on memory, step by step: an answer, a refusal with numbers, or worse.

    python -m bench.memory_limit smollm2.edge --step 32

Every step is a new process, in a memory cgroup of its own where this user may make one (v1 or v2, without swap) and
under RLIMIT_DATA elsewhere. It takes the context that it is given whole: a prompt until 64 tokens are left, which it
decodes. The weights are put out of the page cache first, so that they count against the limit. What was answered is
run again without a limit: the ratio of the decode speeds says whether the system had to drop and read weights again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.memory_plan import fill

_MIB = 1 << 20
_DECODED = 64
_SECONDS = 300
_CHILD = "import sys; from bench.memory_limit import answer; answer(sys.argv[1], int(sys.argv[2]) or None)"


@dataclass(frozen=True)
class Outcome:
    """Of one process; `decode` in tokens per second, `context` in tokens."""

    kind: str
    """answered, refused, killed, hung, or failed."""
    decode: float = 0.0
    context: int = 0
    message: str = ""


def answer(path: str, context: int | None) -> None:
    """Load, read and decode here; print what came of it as JSON."""
    import edge
    from edge.errors import MemoryBudgetError

    try:
        with edge.load(path, context=context) as model:
            context = model.engine.context
            speed = fill(model, _DECODED).timings.decode_tokens_per_s
    except MemoryBudgetError as e:
        print(json.dumps({"kind": "refused", "message": str(e)}))
        return
    print(json.dumps({"kind": "answered", "decode": speed, "context": context}))


def run(path: str, limit: int | None, context: int = 0) -> Outcome:
    """A process under `limit` bytes, None is no limit; for `context` tokens, 0 is as many as it is given."""
    _drop(Path(path))
    with _group(limit) as enter:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, path, str(context)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=enter,
        )
        try:
            out, err = child.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return Outcome("hung")
    if child.returncode < 0:
        return Outcome("killed", message=f"signal {-child.returncode}")
    if child.returncode:
        return Outcome("failed", message=err.strip().splitlines()[-1] if err.strip() else "")
    return Outcome(**json.loads(out))


def sweep(path: str, first: int, last: int, step: int) -> Iterator[tuple[int, Outcome, float]]:
    """(limit, what came of it, decode speed ÷ that without a limit) for limits in bytes."""
    for limit in range(first, last + 1, step):
        outcome = run(path, limit)
        ratio = outcome.decode / run(path, None, outcome.context).decode if outcome.decode else 0.0
        yield limit, outcome, ratio


def _drop(artifact: Path) -> None:
    """Put the artifact's files out of the page cache: who reads them next pays for them."""
    for file in artifact.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _group(limit: int | None) -> Iterator[object]:
    """What a child calls to be under `limit`."""
    if limit is None:
        yield None
        return
    folder = _new_group(limit)
    if folder is None:
        yield lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        return
    try:
        yield lambda: (folder / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        folder.rmdir()


def _new_group(limit: int) -> Path | None:
    """A memory cgroup below this process's own, or None where it may not make one."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        mount, file, swap = (
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.swappiness")
            if controllers
            else ("/sys/fs/cgroup", "memory.max", "memory.swap.max")
        )
        folder = Path(f"{mount}{name}") / f"edgewise-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / file).write_text(str(limit))
            (folder / swap).write_text("0")
            return folder
        except OSError:
            folder.rmdir()
    return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact")
    parser.add_argument("--first", type=int, default=96, help="MiB")
    parser.add_argument("--last", type=int, default=480, help="MiB")
    parser.add_argument("--step", type=int, default=32, help="MiB")
    options = parser.parse_args(arguments)
    print("| limit MiB | | context | decode ÷ unlimited | |\n|---|---|---|---|---|")
    first, last, step = (n * _MIB for n in (options.first, options.last, options.step))
    for limit, outcome, ratio in sweep(options.artifact, first, last, step):
        answered = f"{outcome.context} | {ratio:.2f}" if outcome.kind == "answered" else " | "
        print(f"| {limit // _MIB} | {outcome.kind} | {answered} | {outcome.message[:150]} |", flush=True)


if __name__ == "__main__":
    main()
