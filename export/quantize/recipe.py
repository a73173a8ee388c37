"""The recipe: how every weight matrix of an artifact is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge.errors import InvalidArgument
from export.quantize.precision import BLOCKS, Precision

WEIGHTS = ("int4", "int8", "fp16", "fp32")
AUTO = "auto"
MIXED = "mixed"
"""What a report calls weights that differ from matrix to matrix."""
METHODS = ("rtn", "hqq", "awq", "gptq", "gptq+descent", "awq+gptq", "awq+gptq+descent")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Type and block size of the linear layers, the embedding and the LM head; norms and biases stay fp32."""

    weights: str = "int4"
    block: int = 32
    zero_points: bool = False
    positive: bool = False
    """As in `Precision`."""
    method: str = "rtn"
    tensors: Mapping[str, Precision] = field(default_factory=dict)
    """Matrices that are stored in another way, by their names without `.weight`."""

    def __post_init__(self) -> None:
        if self.weights not in WEIGHTS:
            raise InvalidArgument(f"weights {self.weights!r} is unknown; choose one of {', '.join(WEIGHTS)}")
        if type(self.block) is not int or self.block not in BLOCKS:
            raise InvalidArgument(
                f"block {self.block!r} is not offered; choose one of {', '.join(map(str, BLOCKS))}"
            )
        if self.method not in METHODS:
            raise InvalidArgument(f"method {self.method!r} is unknown; choose one of {', '.join(METHODS)}")
        if self.zero_points and not self.bits:
            raise InvalidArgument(
                f"zero points go with int4 and int8, not with {self.weights}; drop one of the two"
            )

    @property
    def bits(self) -> int:
        """Bits of a quantized weight, 0 where weights are floats."""
        return {"int4": 4, "int8": 8}.get(self.weights, 0)

    @property
    def precision(self) -> Precision:
        """Of matrices that `tensors` does not name; weights are quantized."""
        return Precision(self.bits, self.block, self.zero_points, self.positive)

    def of(self, tensor: str) -> Precision:
        """Of the matrix `tensor`, a name with or without `.weight`."""
        return self.tensors.get(tensor.removesuffix(".weight")) or self.precision

    def to_json(self) -> dict[str, Any]:
        """The recipe as the manifest keeps it; float weights have no block or method."""
        if not self.bits:
            return {"weights": self.weights}
        data: dict[str, Any] = {
            "weights": self.weights,
            "block": self.block,
            "zero_points": self.zero_points,
            "method": self.method,
        }
        if self.positive:
            data["positive"] = True
        if self.tensors:
            data["tensors"] = {name: precision.to_json() for name, precision in self.tensors.items()}
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """Read what `to_json` wrote.

        Raises:
            InvalidArgument, TypeError, AttributeError: it is no recipe.
        """
        values = dict(data)
        tensors = {name: Precision(**how) for name, how in values.pop("tensors", {}).items()}
        return cls(**values, tensors=tensors)
