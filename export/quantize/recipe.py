"""The recipe: how every weight matrix of an artifact is stored."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edge.errors import InvalidArgument
from export.quantize.method import Method
from export.quantize.rtn import RoundToNearest

WEIGHTS = ("int4", "int8", "fp16", "fp32")
BLOCKS = (32, 64, 128)
METHODS: dict[str, Method] = {"rtn": RoundToNearest()}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Type and block size of the linear layers, the embedding and the LM head; norms and biases stay fp32."""

    weights: str = "int4"
    block: int = 32
    zero_points: bool = False
    method: str = "rtn"

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

    def to_json(self) -> dict[str, Any]:
        """The recipe as the manifest keeps it; float weights have no block or method."""
        return asdict(self) if self.bits else {"weights": self.weights}
