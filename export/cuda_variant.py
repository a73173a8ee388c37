"""What a variant for CUDA takes: the onnxruntime dialect in float16, whose every node has a kernel there."""

from __future__ import annotations

from edge.artifact import ModelSpec
from edge.errors import InvalidArgument
from export.quantize import Recipe

CUDA = "cuda"
BITS = (4, 8)
_EMBEDDING = "model.embed_tokens"


def check_half(recipe: Recipe) -> None:
    """What CUDA's operators do not take is refused.

    Raises:
        InvalidArgument: float32 weights, or codes of other than 4 or 8 bits, naming the first tensor that has them.
    """
    if recipe.weights == "fp32":
        raise InvalidArgument(
            f"engine {CUDA} computes in float16, and weights are fp32; choose --weights fp16, int8 or int4"
        )
    for name, precision in recipe.tensors.items():
        if precision.bits not in BITS:
            raise InvalidArgument(
                f"engine {CUDA} takes codes of 4 and 8 bits, and {name} has {precision.bits}; "
                f"export it for {CUDA} from the checkpoint"
            )


def check_embedding(spec: ModelSpec, recipe: Recipe) -> None:
    """CUDA's GatherBlockQuantized counts 4-bit zero points through all rows, and each row's begin with a byte.

    Raises:
        InvalidArgument: an embedding with 4-bit zero points and an odd number of blocks a row.
    """
    if not recipe.bits:
        return
    precision = recipe.of(_EMBEDDING)
    blocks = -(-spec.hidden_size // precision.block)
    if precision.bits == 4 and precision.zero_points and blocks % 2:
        raise InvalidArgument(
            f"{_EMBEDDING} has 4-bit zero points and {blocks} blocks of {precision.block} a row, and CUDA gathers "
            "wrong ones where that number is odd; choose another --block, int8, or no --zero-points"
        )
