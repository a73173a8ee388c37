"""The `cuda` engine: the onnxruntime dialect in float16 on an NVIDIA GPU, by ONNX Runtime. Unverified on device."""

from __future__ import annotations

from typing import Any

from edge.artifact import Artifact
from edge.errors import GpuMissing, MissingExtra
from runtimes.cuda.device import OrtCudaDevice
from runtimes.onnxruntime.providers import CUDA, OPTIONS, check_got, check_listed, refuse_fallback
from runtimes.onnxruntime.session import check_version, onnxruntime, open_session, session_options
from runtimes.tensorrt.bindings import Interface
from runtimes.tensorrt.buckets import ladder
from runtimes.tensorrt.cuda import Cuda
from runtimes.tensorrt.form import LENGTHS
from runtimes.tensorrt.header import sm_name
from runtimes.tensorrt.static_engine import StaticEngine


class CudaEngine(StaticEngine):
    """See `runtimes.protocol.Engine`."""

    name = variant = "cuda"
    kv_types = ("float16",)
    provider: Any = (CUDA, OPTIONS)
    place = "cuda"

    def __init__(
        self, artifact: Artifact, threads: int, context: int, kv_budget: int | None, kv: str | None = None
    ) -> None:
        """Raises EngineError, GpuMissing, ArtifactError, MissingExtra."""
        variant = artifact.variant(self.variant)
        interface = Interface(artifact.spec, LENGTHS, self.kv_type(kv, artifact))
        ort = onnxruntime()
        check_version(str(ort.__version__), variant.requires)
        options = session_options(ort, threads, spin=False)
        try:
            cuda = self._gpu(ort, options)
        except (GpuMissing, MissingExtra) as e:
            raise type(e)(f"{e}. Without a GPU: edge convert {artifact.path} -o OUT --engine cpu") from None
        try:
            session = open_session(
                ort, artifact, variant, options, interface.inputs(), providers=(self.provider,)
            )
            self._check(session, ort)
        except BaseException:
            cuda.close()
            raise
        device = OrtCudaDevice(ort, session, cuda, ladder(context), self.place)
        super().__init__(artifact, interface, device, threads, context, kv_budget)
        self.isa = sm_name(cuda.sm)

    def _gpu(self, ort: Any, options: Any) -> Cuda:
        check_listed(ort)
        refuse_fallback(options)
        return Cuda()

    def _check(self, session: Any, ort: Any) -> None:
        check_got(session, ort)
