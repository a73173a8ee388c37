"""The cuda engine without a GPU: its memory is a stand-in's, and ONNX Runtime computes on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.artifact import open_artifact
from edge.errors import EngineTooOld
from runtimes.cuda import CudaEngine
from runtimes.gpu.cuda import Cuda
from runtimes.onnxruntime.session import check_version, onnxruntime, session_options
from tests.runtimes.tensorrt.fake_cuda import FakeCuda


class OnTheHost(CudaEngine):
    """What is asked of CUDA alone is not asked for."""

    provider = "CPUExecutionProvider"
    place = "cpu"

    fake = FakeCuda()

    @classmethod
    def _gpu(cls, ort: Any) -> Cuda:
        return Cuda(runtime=cls.fake)

    def _options(self, ort: Any, threads: int) -> Any:
        return session_options(ort, threads, spin=False)

    def _check(self, session: Any, ort: Any) -> None:
        pass


def needs_cuda_graphs(path: Path) -> None:
    """Skip where the installed ONNX Runtime is too old for the artifact at `path`."""
    try:
        check_version(str(onnxruntime().__version__), open_artifact(path).variant("cuda").requires)
    except EngineTooOld as e:
        pytest.skip(str(e))


def on_the_host(path: Path, context: int | None = None, kv_budget: int | None = None) -> OnTheHost:
    """The engine of the artifact at `path`; the test is skipped where the installed ONNX Runtime is too old for it."""
    needs_cuda_graphs(path)
    artifact = open_artifact(path)
    return OnTheHost(artifact, 2, context or artifact.spec.context, kv_budget)
