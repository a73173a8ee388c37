"""Processes killed while they have a named session open: nobody else is kept from it, and what was said is whole."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from edge.errors import SessionInUse
from tests.edge.cache import dying as helper
from tests.edge.cache.dying import ROOT, VERSIONS, dying
from tests.edge.cache.samples import leftovers, open_session, version_of, write_version


def test_a_process_killed_at_each_call_leaves_the_version_before_or_its_own(tmp_path: Path) -> None:
    halves, versions = 0, []
    with dying() as killer:
        for calls in itertools.count(1):
            folder = tmp_path / str(calls)
            saved = open_session(folder)
            write_version(saved, 1)
            saved.close()
            killer.begin(helper.write_session, folder, 2, calls)
            killed = killer.killed()
            halves += len(leftovers(folder))
            saved = open_session(folder)
            assert not leftovers(folder)
            versions.append(version_of(saved))
            write_version(saved, 3)
            assert version_of(saved) == 3
            saved.close()
            if not killed:
                break
    assert versions == sorted(versions)
    assert set(versions) == {1, 2}
    assert halves > 3


def test_a_process_killed_at_any_moment_leaves_the_version_before_or_its_own(tmp_path: Path) -> None:
    random, before, written = Random(1), 0, 0
    with dying() as killer:
        for version in VERSIONS:
            killer.begin(helper.write_session, tmp_path, version, random.randint(1, 170), at_once=False)
            killer.killed()
            saved = open_session(tmp_path)
            assert not leftovers(tmp_path)
            now = version_of(saved)
            assert now in (before, version)
            written += now == version
            before = now
            saved.close()
    assert 0 < written < len(VERSIONS)


HOLD = """
import sys
from pathlib import Path
from tests.edge.cache.samples import open_session
saved = open_session(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_a_process_holds_its_session_while_it_lives(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(SessionInUse):
            open_session(tmp_path)
        process.kill()
    open_session(tmp_path).close()
