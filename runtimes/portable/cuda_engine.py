"""The `cuda` engine: the graphs for TensorRT on an NVIDIA GPU, run by ONNX Runtime. Unverified on device.

Not those of the onnxruntime dialect: its activations are float32, and CUDA has GroupQueryAttention in float16 alone, so
that attention would be computed on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edge.artifact import Artifact
from runtimes.onnxruntime.session import onnxruntime, open_session, run_bound, session_options
from runtimes.portable.engine import CHUNK, chosen_form, inputs
from runtimes.portable.providers import CUDA, check_got, check_listed, refuse_fallback
from runtimes.protocol import CancelToken, Logits
from runtimes.site import Site
from runtimes.tensorrt.bindings import LOGITS, Binding, Interface
from runtimes.tensorrt.buckets import ladder
from runtimes.tensorrt.chunks import Profile
from runtimes.tensorrt.cuda import Cuda, address
from runtimes.tensorrt.device import Bytes, Memory, Rows, Runner
from runtimes.tensorrt.feeds import Feeds
from runtimes.tensorrt.header import sm_name
from runtimes.tensorrt.static_engine import StaticEngine

FORM = "opset21"
"""Primitive operators, all of which CUDA has had for long."""


class CudaEngine(StaticEngine):
    """See `runtimes.protocol.Engine`."""

    name = "cuda"
    provider = CUDA
    place = "cuda"

    def __init__(
        self, artifact: Artifact, threads: int, context: int, kv_budget: int | None, kv: str | None = None
    ) -> None:
        """Raises EngineError, GpuMissing, ArtifactError, MissingExtra."""
        kind = self.kv_type(kv, artifact)
        ort = onnxruntime()
        variant, form = chosen_form(artifact, str(ort.__version__), FORM)
        options = session_options(ort, threads, spin=False)
        cuda = self._gpu(ort, options)
        try:
            interface = Interface(artifact.spec, form, kind)
            session = open_session(
                ort, artifact, variant, options, inputs(interface), providers=(self.provider,)
            )
            self._check(session, ort)
        except BaseException:
            cuda.close()
            raise
        device = OrtCudaDevice(ort, session, cuda, ladder(context), self.place)
        super().__init__(artifact, interface, device, threads, context, kv_budget)
        self.isa = sm_name(cuda.sm)

    @classmethod
    def site(cls, artifact: Artifact) -> Site:
        """See `runtimes.select.EngineClass.site`; as on CPUs the last bucket is the context."""
        cuda = cls._cuda(onnxruntime())
        try:
            return Site(card=cuda.own_free())
        finally:
            cuda.close()

    def _gpu(self, ort: Any, options: Any) -> Cuda:
        refuse_fallback(options)
        return self._cuda(ort)

    @classmethod
    def _cuda(cls, ort: Any) -> Cuda:
        check_listed(ort)
        return Cuda()

    def _check(self, session: Any, ort: Any) -> None:
        check_got(session, ort)


class OrtCudaDevice:
    """See `runtimes.tensorrt.device.Device`. One graph serves every capacity; `place` is where ONNX Runtime has it."""

    loaded = 0

    def __init__(
        self, ort: Any, session: Any, cuda: Cuda, capacities: tuple[int, ...], place: str = "cuda"
    ) -> None:
        self.version = str(ort.__version__)
        self.capacities = capacities
        self.prefill = Profile(CHUNK, CHUNK)
        self.place = place
        self.cuda = cuda
        self.session = session
        self.options = ort.RunOptions()

    def card_free(self) -> int | None:
        """See `Device.card_free`."""
        return self.cuda.own_free()

    def allocate(self, nbytes: int) -> Memory:
        """See `Device.allocate`."""
        return self.cuda.allocate(nbytes)

    def copy(self, source: Rows, target: Rows) -> None:
        """See `Device.copy`."""
        self.cuda.copy(source, target)

    def write(self, data: Bytes, target: Rows) -> None:
        """See `Device.write`."""
        self.cuda.write(data, target)

    def read(self, source: Rows) -> Bytes:
        """See `Device.read`."""
        return self.cuda.read(source)

    def runner(self, capacity: int, decode: bool, memory: Mapping[str, Memory]) -> Runner:
        """See `Device.runner`."""
        return _OrtCudaRunner(self, memory)

    def close(self) -> None:
        """See `Device.close`."""
        self.session = None
        self.cuda.close()


class _OrtCudaRunner:
    def __init__(self, device: OrtCudaDevice, memory: Mapping[str, Memory]) -> None:
        self._device, self._memory = device, memory

    def run(
        self,
        feeds: Feeds,
        table: Mapping[str, Binding],
        cancel: CancelToken | None,
        behind: Callable[[], None],
    ) -> Logits:
        """See `Runner.run`."""
        device = self._device
        binding = device.session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        binding.bind_output(LOGITS, "cpu")
        for each in table.values():
            if each.where in ("cache", "rows"):
                where = address(self._memory[each.name.removeprefix("past.")])
                bind = binding.bind_output if each.output else binding.bind_input
                bind(each.name, device.place, 0, each.dtype, list(each.shape), where)
        # ONNX Runtime has a stream of its own.
        device.cuda.synchronize()
        run_bound(device.session, binding, device.options, cancel)
        behind()
        logits: Logits = binding.get_outputs()[0].numpy()
        return logits
