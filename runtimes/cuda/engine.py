"""The `cuda` engine: the onnxruntime dialect in float16 on an NVIDIA GPU, by ONNX Runtime. Unverified on device."""

from __future__ import annotations

import shlex
from typing import Any

from edge.artifact import Artifact
from edge.errors import EngineFailed, GpuMissing, MissingExtra
from runtimes.cuda.device import OrtCudaDevice
from runtimes.gpu.cuda import Cuda
from runtimes.onnxruntime.providers import (
    CUDA,
    OPTIONS,
    check_got,
    check_listed,
    explained,
    load_libraries,
    refuse_fallback,
)
from runtimes.onnxruntime.session import check_version, onnxruntime, open_session, session_options
from runtimes.site import Site
from runtimes.static.bindings import Interface
from runtimes.static.buckets import ladder
from runtimes.static.engine import StaticEngine
from runtimes.static.form import LENGTHS
from runtimes.tensorrt.header import sm_name


class CudaEngine(StaticEngine):
    """See `runtimes.protocol.Engine`."""

    name = variant = "cuda"
    provider: Any = (CUDA, OPTIONS)
    place = "cuda"

    def __init__(
        self, artifact: Artifact, threads: int, context: int, kv_budget: int | None, kv: str | None = None
    ) -> None:
        """Raises EngineError, GpuMissing, ArtifactError, MissingExtra."""
        variant = artifact.variant(self.variant)
        interface = Interface(artifact.spec, LENGTHS, self.kv_type(kv, artifact))
        ort = onnxruntime()
        options = self._options(ort, threads)
        cuda = self._cuda(artifact, ort)
        try:
            check_version(str(ort.__version__), variant.requires)
            session = open_session(
                ort, artifact, variant, options, interface.inputs(), providers=(self.provider,)
            )
            self._check(session, ort)
        except EngineFailed as e:
            cuda.close()
            raise explained(e) from e
        except BaseException:
            cuda.close()
            raise
        device = OrtCudaDevice(ort, session, cuda, ladder(context), self.place)
        super().__init__(artifact, interface, device, threads, context, kv_budget)
        self.isa = sm_name(cuda.sm)

    @classmethod
    def site(cls, artifact: Artifact) -> Site:
        """See `runtimes.select.EngineClass.site`; as on CPUs the last bucket is the context."""
        cuda = cls._cuda(artifact, onnxruntime())
        try:
            return Site(card=cuda.own_free())
        finally:
            cuda.close()

    @classmethod
    def _cuda(cls, artifact: Artifact, ort: Any) -> Cuda:
        try:
            return cls._gpu(ort)
        except (GpuMissing, MissingExtra) as e:
            convert = f"edge convert {shlex.quote(str(artifact.path))} -o OUT --engine cpu"
            raise type(e)(f"{e}. Without a GPU: {convert}") from None

    @classmethod
    def _gpu(cls, ort: Any) -> Cuda:
        check_listed(ort)
        load_libraries(ort)
        return Cuda()

    def _options(self, ort: Any, threads: int) -> Any:
        options = session_options(ort, threads, spin=False)
        refuse_fallback(options)
        return options

    def _check(self, session: Any, ort: Any) -> None:
        check_got(session, ort)
