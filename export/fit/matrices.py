"""The matrices of a decoder as they are stored: those that a dialect puts into one product share one precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edge.artifact import ModelSpec
from export.architecture.decoder import head_name
from export.architecture.expected import expected_tensors

EMBEDDING = "model.embed_tokens"


@dataclass(frozen=True)
class Matrix:
    """One or more matrices, stored with their rows below each other."""

    tensors: tuple[str, ...]
    """Hugging Face names without `.weight`."""
    rows: int
    inputs: int
    layer: int | None

    @property
    def name(self) -> str:
        """As `layerwise.Taps` names it."""
        return "+".join(self.tensors)

    @property
    def gated(self) -> bool:
        """Whether the cpu engine stores it as two halves in turn."""
        return len(self.tensors) == 2


def matrices(spec: ModelSpec) -> tuple[Matrix, ...]:
    """All of a decoder, in the order that a run uses them; a tied head is the embedding."""
    shapes = expected_tensors(spec)

    def matrix(layer: int | None, *names: str) -> Matrix:
        sizes = [shapes[f"{name}.weight"] for name in names]
        return Matrix(names, sum(rows for rows, _ in sizes), sizes[0][1], layer)

    def all_of() -> Iterator[Matrix]:
        yield matrix(None, EMBEDDING)
        for layer in range(spec.layers):
            attention, mlp = (f"model.layers.{layer}.{kind}" for kind in ("self_attn", "mlp"))
            yield matrix(layer, *(f"{attention}.{name}_proj" for name in "qkv"))
            yield matrix(layer, f"{attention}.o_proj")
            yield matrix(layer, f"{mlp}.gate_proj", f"{mlp}.up_proj")
            yield matrix(layer, f"{mlp}.down_proj")
        if not spec.tied:
            yield matrix(None, head_name(spec))

    return tuple(all_of())
