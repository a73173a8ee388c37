"""A CPU in the place of a GPU: memory of the host, and ONNX Runtime to run the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import MemoryBudgetError
from runtimes.onnxruntime.session import run_bound
from runtimes.protocol import CancelToken, Logits
from runtimes.static.bindings import LOGITS, Binding
from runtimes.static.chunks import Profile
from runtimes.static.device import Bytes, Memory, Rows, Runner
from runtimes.static.feeds import Feeds

# NumPy's own arrays begin 16 bytes into a cache line.
_ALIGNMENT = 64


class HostMemory:
    """See `runtimes.static.device.Memory`."""

    def __init__(self, nbytes: int) -> None:
        """Raises MemoryBudgetError where the system refuses."""
        self.nbytes = nbytes
        try:
            # Pages of zeros, taken as they are written.
            whole = np.zeros(nbytes + _ALIGNMENT, np.uint8)
        except MemoryError:
            raise MemoryBudgetError(
                f"the system refused {nbytes / 2**20:.1f} MiB for KV; use a shorter context"
            ) from None
        start = -whole.ctypes.data % _ALIGNMENT
        self.array: Bytes = whole[start : start + nbytes]

    def free(self) -> None:
        """See `Memory.free`."""
        self.array = np.empty(0, np.uint8)
        self.nbytes = 0


def _at(rows: Rows) -> Bytes:
    """The bytes of `rows` in place, uint8 [count, width]."""
    assert isinstance(rows.memory, HostMemory)
    end = rows.offset + (rows.count - 1) * rows.pitch + rows.width
    assert 0 <= rows.offset <= end <= rows.memory.nbytes
    return np.ndarray(
        (rows.count, rows.width),
        np.uint8,
        rows.memory.array,
        rows.offset,
        (rows.pitch, 1),
    )


class HostDevice:
    """See `runtimes.static.device.Device`. `session` is of the module `ort`; one graph serves every capacity."""

    loaded = 0

    def __init__(self, ort: Any, session: Any, capacities: tuple[int, ...], prefill: Profile) -> None:
        self.version = str(ort.__version__)
        self.capacities = capacities
        self.prefill = prefill
        self._ort = ort
        self._session = session
        self._options = ort.RunOptions()

    def card_free(self) -> int | None:
        """See `Device.card_free`."""
        return None

    def allocate(self, nbytes: int) -> Memory:
        """See `Device.allocate`."""
        return HostMemory(nbytes)

    def copy(self, source: Rows, target: Rows) -> None:
        """See `Device.copy`."""
        _at(target)[:] = _at(source)

    def write(self, data: Bytes, target: Rows) -> None:
        """See `Device.write`."""
        _at(target)[:] = data

    def read(self, source: Rows) -> Bytes:
        """See `Device.read`."""
        return _at(source).copy()

    def runner(self, capacity: int, decode: bool, memory: Mapping[str, Memory]) -> Runner:
        """See `Device.runner`."""
        return _HostRunner(self._ort, self._session, self._options, memory)

    def close(self) -> None:
        """See `Device.close`."""
        self._session = None


class _HostRunner:
    """A binding of a session; the caches are bound once."""

    def __init__(self, ort: Any, session: Any, options: Any, memory: Mapping[str, Memory]) -> None:
        self._ort, self._session, self._options, self._memory = ort, session, options, memory
        self._binding = session.io_binding()
        self._bound: dict[str, tuple[int, ...]] = {}

    def run(
        self,
        feeds: Feeds,
        table: Mapping[str, Binding],
        cancel: CancelToken | None,
        behind: Callable[[], None],
    ) -> Logits:
        """See `Runner.run`."""
        for name, array in feeds.items():
            assert (array.shape, array.dtype) == (table[name].shape, table[name].dtype)
            self._binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for binding in table.values():
            if binding.where in ("cache", "rows"):
                self._bind(binding)
        self._binding.bind_output(LOGITS, "cpu")
        run_bound(self._session, self._binding, self._options, cancel)
        behind()
        # ONNX Runtime gives outputs in the order in which they were bound first.
        names = [name for name in self._order if table[name].output]
        logits: NDArray[np.float32] = self._binding.get_outputs()[names.index(LOGITS)].numpy()
        return logits

    @property
    def _order(self) -> list[str]:
        return [*self._bound, LOGITS]

    def _bind(self, binding: Binding) -> None:
        if self._bound.get(binding.name) == binding.shape:
            return
        memory = self._memory[binding.buffer]
        assert isinstance(memory, HostMemory)
        assert binding.nbytes <= memory.nbytes
        array = memory.array[: binding.nbytes].view(binding.dtype).reshape(binding.shape)
        value = self._ort.OrtValue.ortvalue_from_numpy(array)
        if binding.output:
            self._binding.bind_ortvalue_output(binding.name, value)
        else:
            self._binding.bind_ortvalue_input(binding.name, value)
        self._bound[binding.name] = binding.shape
