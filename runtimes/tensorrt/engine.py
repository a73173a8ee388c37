"""The `tensorrt` engine: TensorRT, or TensorRT for RTX, on a GPU. Unverified on device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge.artifact import Artifact
from edge.errors import EngineError
from runtimes.gpu.cuda import Cuda
from runtimes.site import Site
from runtimes.static.engine import StaticEngine
from runtimes.tensorrt import library
from runtimes.tensorrt.device import TensorRtDevice
from runtimes.tensorrt.header import sm_name
from runtimes.tensorrt.plans import Plan, found_plans, site_of


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
            flavour, plans = _chosen(artifact, modules, cuda)
            if plans[0].kv != kind:
                raise EngineError(
                    f"{plans[0].path} keeps KV as {plans[0].kv}, and edge.json says {kind}; build it again"
                )
            interface = plans[0].interface(artifact.spec)
            device = TensorRtDevice(modules[flavour], cuda, plans, interface)
            # Found out now, not with the first question.
            device.load(device.capacities[0])
        except BaseException:
            cuda.close()
            raise
        super().__init__(artifact, interface, device, threads, context, kv_budget)
        self.isa = sm_name(cuda.sm)

    @classmethod
    def site(cls, artifact: Artifact) -> Site:
        """See `runtimes.select.EngineClass.site`."""
        modules = library.modules()
        cuda = _gpu()
        try:
            _, plans = _chosen(artifact, modules, cuda)
            return site_of(artifact.spec, plans, cuda.own_free())
        finally:
            cuda.close()


def _chosen(artifact: Artifact, modules: Mapping[str, Any], cuda: Cuda) -> tuple[str, Sequence[Plan]]:
    """The flavour of TensorRT to run, and the plans that it runs here."""
    versions = {flavour: str(module.__version__) for flavour, module in modules.items()}
    return next(iter(found_plans(artifact, cuda.sm, versions).items()))


def _gpu() -> Any:
    """The first GPU; a test puts another in its place."""
    return Cuda()
