"""Memory of a device that is a GPU, whatever runs its graphs. See `runtimes.static.device.Device`."""

from __future__ import annotations

from runtimes.gpu.cuda import Cuda
from runtimes.static.device import Bytes, Memory, Rows


class OnCuda:
    """The part of a `Device` that `cuda` does."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda

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
