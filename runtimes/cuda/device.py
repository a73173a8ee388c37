"""A GPU with ONNX Runtime: memory of `Cuda`, and a session that is given its addresses. Unverified on device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from runtimes.gpu.cuda import Cuda, address
from runtimes.gpu.on_cuda import OnCuda
from runtimes.onnxruntime.engine import CHUNK
from runtimes.onnxruntime.session import run_bound
from runtimes.protocol import CancelToken, Logits
from runtimes.static.bindings import LOGITS, Binding
from runtimes.static.chunks import Profile
from runtimes.static.device import Memory, Runner
from runtimes.static.feeds import Feeds


class OrtCudaDevice(OnCuda):
    """See `runtimes.static.device.Device`. One graph serves every capacity; `place` is where ONNX Runtime has it."""

    loaded = 0

    def __init__(
        self, ort: Any, session: Any, cuda: Cuda, capacities: tuple[int, ...], place: str = "cuda"
    ) -> None:
        super().__init__(cuda)
        self.version = str(ort.__version__)
        self.capacities = capacities
        self.prefill = Profile(CHUNK, CHUNK)
        self.place = place
        self.session = session
        self.options = ort.RunOptions()

    def runner(self, capacity: int, decode: bool, memory: Mapping[str, Memory]) -> Runner:
        """See `Device.runner`."""
        return _OrtCudaRunner(self, memory)

    def close(self) -> None:
        """See `Device.close`."""
        self.session = None
        self.cuda.close()


class _OrtCudaRunner:
    """A binding of a session; the cache is bound once."""

    def __init__(self, device: OrtCudaDevice, memory: Mapping[str, Memory]) -> None:
        self._device, self._memory = device, memory
        self._binding = device.session.io_binding()
        self._bound = False

    def run(
        self,
        feeds: Feeds,
        table: Mapping[str, Binding],
        cancel: CancelToken | None,
        behind: Callable[[], None],
    ) -> Logits:
        """See `Runner.run`."""
        device, binding = self._device, self._binding
        for name, array in feeds.items():
            # It is copied to the GPU where its operators read it there.
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        # First of the outputs, and anew with every call: it has as many rows as are wanted.
        binding.bind_output(LOGITS, "cpu")
        if not self._bound:
            self._bind_cache(table)
        # ONNX Runtime has a stream of its own.
        device.cuda.synchronize()
        run_bound(device.session, binding, device.options, cancel)
        behind()
        logits: Logits = binding.get_outputs()[0].numpy()
        return logits

    def _bind_cache(self, table: Mapping[str, Binding]) -> None:
        for each in table.values():
            if each.where == "cache":
                memory = self._memory[each.buffer]
                assert each.nbytes <= memory.nbytes
                bind = self._binding.bind_output if each.output else self._binding.bind_input
                bind(each.name, self._device.place, 0, each.dtype, list(each.shape), address(memory))
        self._bound = True
