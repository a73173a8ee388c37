"""PackedTensor: a matrix that a checkpoint holds as codes, scales and zero points."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InvalidArgument, TensorError
from export.checkpoint.packed.parts import AGAIN, Parts
from export.checkpoint.packed.words import Codes
from export.checkpoint.tensor import Floats, LazyTensor
from export.quantize import BLOCKS, Precision, Quantized

ALL = slice(None)


class PackedTensor(LazyTensor):
    """A matrix [outputs, inputs] of a quantized checkpoint: weight = (code − zero) · scale, in float32.

    An input belongs to a group, and a row has a scale and a zero point a group.
    """

    def __init__(self, module: str, shape: tuple[int, int], bits: int, groups: int, parts: Parts) -> None:
        super().__init__(f"{module}.weight", shape, f"INT{bits}")
        self.bits = bits
        self.groups = groups
        self._parts = parts

    @property
    def nbytes(self) -> int:
        """Bytes in the file, scales and all."""
        return sum(part.nbytes for part in self._parts.values())

    @property
    def grid(self) -> Precision | None:
        """The precision that holds the codes as they are.

        None where no block fits into the groups, and where float16 does not hold every scale.
        """
        return self._grid

    def codes(self, start: int, stop: int) -> Quantized:
        """Rows `start` to `stop` as stored, the scale of a wide group repeated for each of its blocks."""
        self._require(start, stop)
        if self.grid is None:
            raise InvalidArgument(
                f"tensor {self.name:.200}: no block holds its groups and scales; read its rows"
            )
        if start == stop:
            return self.codes(0, 1).rows(0, 0)
        rows, block = slice(start, stop), self.grid.block
        groups = self._group_of_input[::block]
        zeros = self._zeros(rows) if self.grid.zero_points else None
        return Quantized(
            self._codes(rows).reshape(stop - start, -1, block),
            self._finite_scales(rows)[:, groups],
            None if zeros is None else zeros[:, groups],
        )

    def _rows(self, start: int, stop: int) -> Floats:
        rows, groups = slice(start, stop), self._group_of_input
        zeros = self._zeros(rows)
        weights = self._codes(rows).astype(np.float32)
        weights -= np.float32(self._middle) if zeros is None else zeros[:, groups]
        # A scale of float32 may be any number; whoever reads the weights checks them.
        with np.errstate(over="ignore"):
            weights *= self._finite_scales(rows)[:, groups]
        return weights

    @cached_property
    def _grid(self) -> Precision | None:
        block = next((block for block in sorted(BLOCKS, reverse=True) if self._shared(block)), None)
        scales = self._finite_scales(ALL)
        with np.errstate(over="ignore"):
            exact = np.array_equal(scales, scales.astype(np.float16).astype(np.float32))
        if block is None or not exact:
            return None
        zeros = self._zeros(ALL)
        return Precision(self.bits, block, zeros is not None and bool((zeros != self._middle).any()))

    def _shared(self, block: int) -> bool:
        """Whether rows are whole blocks of this size, and each lies in one group."""
        if self.shape[1] % block:
            return False
        groups = self._group_of_input.reshape(-1, block)
        return bool((groups == groups[:, :1]).all())

    @cached_property
    def _group_of_input(self) -> NDArray[np.int32]:
        groups = self._stored_groups()
        inputs = self.shape[1]
        if groups is None:
            return np.arange(inputs, dtype=np.int32) // (inputs // self.groups)
        if groups.min() < 0 or groups.max() >= self.groups:
            wrong = int(groups.min()) if groups.min() < 0 else int(groups.max())
            raise TensorError(
                f"tensor {self.name:.200}: an input is of group {wrong}, and there are {self.groups} groups; {AGAIN}"
            )
        return groups.astype(np.int32)

    @property
    def _middle(self) -> int:
        return 1 << (self.bits - 1)

    def _finite_scales(self, rows: slice) -> Floats:
        scales = self._scales(rows)
        finite = np.isfinite(scales)
        if not finite.all():
            row, group = np.argwhere(~finite)[0]
            raise TensorError(
                f"tensor {self.name:.200}: the scale of row {(rows.start or 0) + row}, group {group}, is "
                f"{scales[row, group]}; {AGAIN}"
            )
        return scales

    @abstractmethod
    def _codes(self, rows: slice) -> Codes:
        """Codes uint8 [rows, inputs]."""

    @abstractmethod
    def _scales(self, rows: slice) -> Floats:
        """Scales float32 [rows, groups]."""

    @abstractmethod
    def _zeros(self, rows: slice) -> Codes | None:
        """Zero points uint8 [rows, groups]; None for the middle code everywhere."""

    def _stored_groups(self) -> NDArray[Any] | None:
        """The group of each input; None where they lie side by side, equally wide."""
        return None
