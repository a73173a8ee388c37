"""The `tensorrt` engine: TensorRT, or TensorRT for RTX, on a GPU. Unverified on device."""

from __future__ import annotations

from typing import Any

from edge.artifact import Artifact
from edge.errors import EngineError
from runtimes.tensorrt import library
from runtimes.tensorrt.bindings import Interface
from runtimes.tensorrt.cuda import Cuda
from runtimes.tensorrt.form import FORMS
from runtimes.tensorrt.header import sm_name
from runtimes.tensorrt.plans import found_plans
from runtimes.tensorrt.static_engine import StaticEngine
from runtimes.tensorrt.trt_device import TensorRtDevice


class TensorRtEngine(StaticEngine):
    """See `runtimes.protocol.Engine`. The artifact's engines have to be built before: `edge build`."""

    name = "tensorrt"

    def __init__(
        self,
        artifact: Artifact,
        threads: int,
        context: int,
        kv_budget: int | None,
        kv: str | None = None,
    ) -> None:
        """`threads` are of no use to a GPU.

        Raises:
            TensorRTMissing, MissingExtra: what it needs is not installed, and how to.
            GpuMissing: there is no GPU.
            EngineMismatch, EngineDamaged, EngineError: no engine of the artifact runs here, and what to build.
            MemoryBudgetError: the GPU's memory does not hold the engine.
        """
        kind = self.kv_type(kv, artifact)
        modules = library.modules()
        cuda = _gpu()
        try:
            versions = {flavour: str(module.__version__) for flavour, module in modules.items()}
            flavour, plans = next(iter(found_plans(artifact, cuda.sm, versions).items()))
            if plans[0].kv != kind:
                raise EngineError(
                    f"{plans[0].path} keeps KV as {plans[0].kv}, and edge.json says {kind}; build it again"
                )
            form = next(form for form in FORMS if form.name == plans[0].form)
            interface = Interface(artifact.spec, form, kind)
            device = TensorRtDevice(modules[flavour], cuda, plans, interface)
            # Found out now, not with the first question.
            device.load(device.capacities[0])
        except BaseException:
            cuda.close()
            raise
        super().__init__(artifact, interface, device, threads, context, kv_budget)
        self.isa = sm_name(cuda.sm)


def _gpu() -> Any:
    """The first GPU; a test puts another in its place."""
    return Cuda()
