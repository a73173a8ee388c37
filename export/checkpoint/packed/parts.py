"""The tensors that one packed matrix is made of, each checked before it is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from edge.errors import CheckpointCorrupt, TensorError
from export.checkpoint.safetensors_file import FLOATS, SafetensorsTensor

Parts = Mapping[str, SafetensorsTensor]
"""By the last part of their names."""

WORDS = ("I32",)
SCALES = tuple(FLOATS)
AGAIN = "get the checkpoint again from its publisher"


def part(module: str, parts: Parts, name: str, types: Collection[str]) -> SafetensorsTensor:
    """The part `name` of a matrix.

    Raises:
        TensorError: it is missing.
        CheckpointCorrupt: it is of a type that is not among `types`.
    """
    if name not in parts:
        raise TensorError(
            f"tensor {module:.200}.{name} is missing, without which {', '.join(parts)} cannot be read; {AGAIN}"
        )
    found = parts[name]
    if found.dtype not in types:
        raise CheckpointCorrupt(
            f"{found.path}: tensor {found.name:.200} is {found.dtype}, expected {' or '.join(types)}; {AGAIN}"
        )
    return found


def matrix(module: str, parts: Parts, name: str, types: Collection[str]) -> SafetensorsTensor:
    """The part `name`, with two axes and none of them empty; errors as `part`, and TensorError."""
    found = part(module, parts, name, types)
    if len(found.shape) != 2 or not all(found.shape):
        raise TensorError(
            f"{found.path}: tensor {found.name:.200} has shape {found.shape}, no matrix; {AGAIN}"
        )
    return found


def require_shape(tensor: SafetensorsTensor, shape: tuple[int, ...], why: str) -> None:
    """Refuse a part of another shape, `why` saying what it follows from.

    Raises:
        TensorError: its shape is another.
    """
    if tensor.shape != shape:
        raise TensorError(
            f"{tensor.path}: tensor {tensor.name:.200} has shape {tensor.shape}, but {why} call for {shape}; {AGAIN}, "
            "or correct quantization_config"
        )


def group_count(module: str, inputs: int, bits: int, group: int) -> int:
    """Groups of a row of `inputs`, `group` being their width or -1 for one group.

    Raises:
        TensorError: they are no whole number.
    """
    if group == -1:
        return 1
    if inputs % group:
        raise TensorError(
            f"tensor {module:.200}.weight has {inputs} inputs at {bits} bits, no multiple of the group_size {group}; "
            f"{AGAIN}, or correct quantization_config"
        )
    return inputs // group
