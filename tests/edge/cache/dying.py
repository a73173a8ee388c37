"""Processes that die: a helper forks a child for each task that it is told, and the child lives for some calls only.

A warm process forks in a millisecond or two; to start a Python for each death would take minutes.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType

from edge.cache.folder import make_folder
from tests.edge.cache.samples import chain, data_of, open_disk, open_session, read, session_of, write_version

ROOT = Path(__file__).resolve().parents[3]
CHAIN = chain(20)
MOST = 100_000
BUDGET = MOST * len(CHAIN) // 4
"""About half of what the blocks take together."""
DATA = {block: data_of(block, MOST) for block in CHAIN}
"""What the processes here write. Made before they are born, as sessions are: they are to die while they write."""
VERSIONS = range(1, 50)
"""Of a session."""


def write_blocks(folder: Path, seed: int) -> None:
    """Write without an end, in any order; older blocks make room."""
    random, disk = Random(seed), open_disk(folder, BUDGET)
    while True:
        block = random.choice(CHAIN)
        disk.write(block, DATA[block])


def share_blocks(folder: Path, seed: int) -> None:
    """Read, write, touch and clean up for a while; what is read is right."""
    random, disk = Random(seed), open_disk(folder, BUDGET)
    for i in range(300):
        block = random.choice(CHAIN)
        data = read(disk, block)
        if data is None:
            disk.write(block, DATA[block])
        else:
            assert data == DATA[block]
            disk.touch([block])
        if i % 10 == 0:
            make_folder(folder)


def write_session(folder: Path, seed: int) -> None:
    """Save a version of a session."""
    saved = open_session(folder)
    write_version(saved, seed)
    saved.close()


TASKS: dict[str, Callable[[Path, int], None]] = {
    task.__name__: task for task in (write_blocks, share_blocks, write_session)
}


class Dying:
    """The helper, as who started it sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def begin(
        self, task: Callable[[Path, int], None], folder: Path, seed: int, calls: int, at_once: bool = True
    ) -> None:
        """Have a child do `task` for `calls` calls of C functions: it dies before the next, or, not `at_once`, soon."""
        assert self._process.stdin is not None
        told = [task.__name__, str(folder), seed, calls, at_once]
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()

    def killed(self) -> bool:
        """Whether the child was, rather than done before."""
        assert self._process.stdout is not None
        status = int(self._process.stdout.readline())
        assert status in (0, -signal.SIGKILL)
        return status != 0


@contextmanager
def dying() -> Iterator[Dying]:
    command = [sys.executable, "-m", "tests.edge.cache.dying"]
    # A process with one thread only may fork and go on.
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env
    ) as process:
        yield Dying(process)
        process.communicate()
    assert process.returncode == 0


def _live(task: Callable[[Path, int], None], folder: Path, seed: int, calls: int, at_once: bool) -> int:
    """The exit status of a child; negative for a signal."""
    calls_read, calls_made = os.pipe()
    child = os.fork()
    if not child:
        # Who writes to a helper that has died dies too.
        os.close(calls_read)
        count = itertools.count(1)

        def tell(frame: FrameType, event: str, argument: object) -> None:
            if event == "c_call":
                os.write(calls_made, b".")
                if at_once and next(count) == calls:
                    os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            sys.setprofile(tell)
            task(folder, seed)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(calls_made)
    left = calls
    while left and (told := os.read(calls_read, min(left, 1 << 16))):
        left -= len(told)
    if not at_once and not left:
        os.kill(child, signal.SIGKILL)
    while os.read(calls_read, 1 << 16):
        pass
    os.close(calls_read)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    for version in VERSIONS:
        session_of(version)
    for line in sys.stdin:
        task, folder, seed, calls, at_once = json.loads(line)
        print(_live(TASKS[task], Path(folder), seed, calls, at_once), flush=True)


if __name__ == "__main__":
    main()
