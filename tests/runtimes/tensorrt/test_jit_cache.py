"""Kernels that TensorRT for RTX compiles: which, and when they are kept."""

from __future__ import annotations

import pytest

from runtimes.tensorrt import jit_cache
from tests.runtimes.conformance import run, text
from tests.runtimes.tensorrt.fake_trt import FakeRuntimeCache, FakeTensorRtRtx
from tests.runtimes.tensorrt.machine import Built


def test_kernels_that_rtx_compiles_are_there_at_the_next_start(machine: Built) -> None:
    here = machine(kind=FakeTensorRtRtx)
    [file] = {path.with_suffix(".jit") for path in here.artifact.path.rglob("*-256.engine")}

    def start(tokens: int) -> None:
        engine = here.open()
        cache = engine.new_cache()
        for token in [text(tokens), [1], [2]]:
            run(engine, cache, token)
        engine.close()

    start(1)
    # The profile of single tokens, which is captured, waits for kernels of its shapes.
    assert file.read_bytes() == b"kernels EAGER-1"
    start(20)
    # Nothing is compiled anew for a prompt's own length.
    assert file.read_bytes() == b"kernels EAGER-1 NONE-0"
    written = file.stat().st_mtime_ns, file.stat().st_ino
    start(20)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == written
    file.write_bytes(b"of another version")
    start(20)
    assert file.read_bytes() == b"kernels EAGER-1 NONE-0"
    assert [path.name for path in file.parent.iterdir() if path.suffix == ".part"] == []
    here.artifact.verify()


def test_kernels_are_kept_once_a_token_was_decoded(machine: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed has compiled them for the next one."""
    here = machine(kind=FakeTensorRtRtx)
    [file] = {path.with_suffix(".jit") for path in here.artifact.path.rglob("*-256.engine")}
    engine = here.open()
    for _ in range(2):
        cache = engine.new_cache()
        run(engine, cache, text(20))
        run(engine, cache, [1])
        assert file.read_bytes() == b"kernels EAGER-1 NONE-0"
        # That is asked for once: it takes its time.
        monkeypatch.setattr(FakeRuntimeCache, "serialize", lambda _: pytest.fail("once more"))
    monkeypatch.undo()
    engine.close()


def test_kernels_that_cannot_be_kept_are_none(machine: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine(kind=FakeTensorRtRtx)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(jit_cache.os, "replace", refuse)
    engine = here.open()
    run(engine, engine.new_cache(), text(5))
    engine.close()
    assert not [path for path in here.artifact.path.rglob("*") if path.suffix in (".jit", ".part")]
