"""What tests of the engine on stand-ins share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtimes.gpu.cuda import Cuda
from runtimes.tensorrt import engine as engine_module
from runtimes.tensorrt import library
from tests.runtimes.tensorrt.fake_cuda import FakeCuda
from tests.runtimes.tensorrt.fake_trt import FakeTensorRT
from tests.runtimes.tensorrt.machine import Built, Machine, build
from tests.runtimes.tensorrt_artifact import needs_operators


@pytest.fixture
def machine(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Built:
    """A machine whose modules are the stand-ins."""

    def make(
        form: str = "opset24",
        cuda: FakeCuda | None = None,
        kind: type[FakeTensorRT] = FakeTensorRT,
        **changes: Any,
    ) -> Machine:
        needs_operators(form, exported)
        path = tmp_path / "m.edge"
        path.mkdir()
        for source in exported.rglob("*"):
            target = path / source.relative_to(exported)
            if source.is_dir():
                target.mkdir(exist_ok=True)
            else:
                target.write_bytes(source.read_bytes())
        found = Machine(build(path, form, **changes), cuda or FakeCuda(), form, kind)
        monkeypatch.setattr(library, "modules", lambda: {"tensorrt": found.trt})
        monkeypatch.setattr(engine_module, "_gpu", lambda: Cuda(runtime=found.cuda))
        return found

    return make
