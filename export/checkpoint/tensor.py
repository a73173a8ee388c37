"""LazyTensor: a tensor of a checkpoint, read when asked and never kept."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from edge.errors import InvalidArgument
from export.quantize import Precision, Quantized

Floats = npt.NDArray[np.float32]

# `read` fetches so many elements at a time, so that unpacking them needs little beside the result.
CHUNK_ELEMENTS = 4 << 20


class LazyTensor(ABC):
    """A named tensor on disk. Rows are slices of its first axis."""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        self.name = name
        self.shape = shape
        self.dtype = dtype

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.shape}, {self.dtype})"

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes in the checkpoint."""

    @property
    def grid(self) -> Precision | None:
        """How the numbers are stored, where an artifact can hold just that: codes in blocks that share a scale.

        None otherwise.
        """
        return None

    def codes(self, start: int, stop: int) -> Quantized:
        """Rows `start` to `stop` of a tensor with a grid, as stored.

        Raises:
            InvalidArgument: the tensor has no grid, or not a range inside it.
            CheckpointCorrupt: the file has become shorter or unreadable.
        """
        raise InvalidArgument(f"tensor {self.name}: its numbers are no codes on a grid; read its rows")

    def rows(self, start: int, stop: int) -> Floats:
        """Rows `start` to `stop`, C-contiguous float32 [stop - start, ...]; only these are read.

        Raises:
            InvalidArgument: not a range inside the tensor.
            CheckpointCorrupt: the file has become shorter or unreadable.
        """
        self._require(start, stop)
        if start == stop:
            return np.empty((0, *self.shape[1:]), np.float32)
        return np.ascontiguousarray(self._rows(start, stop), dtype=np.float32)

    def read(self) -> Floats:
        """The whole tensor, C-contiguous float32; errors as `rows`."""
        result = np.empty(self.shape, np.float32)
        step = max(1, CHUNK_ELEMENTS // max(1, math.prod(self.shape[1:])))
        for start in range(0, self.shape[0], step):
            stop = min(start + step, self.shape[0])
            result[start:stop] = self.rows(start, stop)
        return result

    def _require(self, start: int, stop: int) -> None:
        if not self.shape or not 0 <= start <= stop <= self.shape[0]:
            raise InvalidArgument(f"tensor {self.name}: rows {start} to {stop} are not in {self.shape}")

    @abstractmethod
    def _rows(self, start: int, stop: int) -> npt.NDArray[np.generic]:
        """Rows of any float type, given a range that is not empty and inside the tensor."""
