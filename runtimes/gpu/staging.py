"""Staging: what the host feeds a GPU, and the logits that it reads.

On a discrete card there are two memories, and a copy between them; on a unified board one that both reach.
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from runtimes.gpu.cuda import Cuda
from runtimes.static.bindings import Binding


class Stage(Protocol):
    """Room for one input or output, at the same place for as long as it lives."""

    @property
    def address(self) -> int:
        """Where the GPU has it."""

    def array(self, binding: Binding) -> NDArray[Any]:
        """The host's side of the first bytes, as `binding` has them."""

    def upload(self, nbytes: int) -> None:
        """Ask for what the host has written to be where the GPU reads."""

    def download(self, nbytes: int) -> None:
        """Ask for what the GPU has written to be where the host reads."""

    def free(self) -> None:
        """Give it back."""


class UnifiedStage:
    """Pinned memory that both sides reach: nothing is copied."""

    def __init__(self, cuda: Cuda, nbytes: int) -> None:
        self._memory = cuda.pinned(nbytes)
        self._host = self._memory.array()

    @property
    def address(self) -> int:
        """See `Stage.address`."""
        return self._memory.address

    def array(self, binding: Binding) -> NDArray[Any]:
        """See `Stage.array`."""
        return self._host[: binding.nbytes].view(binding.dtype).reshape(binding.shape)

    def upload(self, nbytes: int) -> None:
        """See `Stage.upload`."""

    def download(self, nbytes: int) -> None:
        """See `Stage.download`."""

    def free(self) -> None:
        """See `Stage.free`."""
        self._host = self._host[:0]
        self._memory.free()


class DiscreteStage(UnifiedStage):
    """Memory of the card beside it."""

    def __init__(self, cuda: Cuda, nbytes: int) -> None:
        super().__init__(cuda, nbytes)
        self._cuda = cuda
        try:
            self._card = cuda.allocate(nbytes)
        except BaseException:
            super().free()
            raise

    @property
    def address(self) -> int:
        """See `Stage.address`."""
        return self._card.address

    def upload(self, nbytes: int) -> None:
        """See `Stage.upload`."""
        self._cuda.upload(self._card.address, self._memory.host, nbytes)

    def download(self, nbytes: int) -> None:
        """See `Stage.download`."""
        self._cuda.download(self._memory.host, self._card.address, nbytes)

    def free(self) -> None:
        """See `Stage.free`."""
        self._card.free()
        super().free()


def stage(cuda: Cuda, nbytes: int) -> Stage:
    """Room for `nbytes`, as the board has its memory.

    Raises:
        MemoryBudgetError
    """
    return UnifiedStage(cuda, nbytes) if cuda.unified else DiscreteStage(cuda, nbytes)
