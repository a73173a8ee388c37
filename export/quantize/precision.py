"""Precision: how one weight matrix is stored."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InvalidArgument

BLOCKS = (32, 64, 128)
BITS = (4, 5, 6, 8)
"""All but 4 and 8 for the cpu engine alone."""
# A scale is stored as float16.
_SCALE_BITS = 16


@dataclass(frozen=True, order=True)
class Precision:
    """`bits` of a code, weights of a `block` that share a scale, and whether a zero point stands beside it."""

    bits: int
    block: int
    zero_points: bool = False
    positive: bool = False
    """Whether scales are chosen above 0: TensorRT takes no others."""

    def __post_init__(self) -> None:
        if type(self.bits) is not int or self.bits not in BITS:
            raise InvalidArgument(f"bits {self.bits!r} are not offered; choose one of {_listed(BITS)}")
        if type(self.block) is not int or self.block not in BLOCKS:
            raise InvalidArgument(f"block {self.block!r} is not offered; choose one of {_listed(BLOCKS)}")

    @property
    def bits_per_weight(self) -> float:
        """With scales and zero points, as the cpu engine stores them."""
        return self.bits + (_SCALE_BITS + self.bits * self.zero_points) / self.block

    def holds(self, other: Precision) -> bool:
        """Whether every code of `other` is one here; of signs of scales see `PositiveScales`."""
        return self.block == other.block and self.bits >= other.bits and self.zero_points >= other.zero_points

    def padding(self, inputs: int) -> int:
        """Zeros that fill up the last block of a row of `inputs` weights."""
        return -inputs % self.block

    def padded(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows float32 [rows, inputs] with the last block filled up with zeros."""
        padding = self.padding(rows.shape[1])
        return np.pad(rows, ((0, 0), (0, padding))) if padding else rows

    def to_json(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        data = asdict(self)
        if not self.positive:
            del data["positive"]
        return data


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))
