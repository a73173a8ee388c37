"""A .safetensors file: its header checked by the safetensors library, its tensors read by rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import CheckpointCorrupt, Unsupported
from export.checkpoint.dependency import dependency
from export.checkpoint.tensor import LazyTensor

FLOATS = {"F32": 4, "F16": 2, "BF16": 2}
"""Bytes of a number that a model computes with."""
INTEGERS = {"I8": 1, "U8": 1, "I32": 4, "I64": 8}
"""Bytes of a number that a packed matrix is made of."""
_ITEM_BYTES = FLOATS | INTEGERS
_AGAIN = "get it again from its publisher"


class SafetensorsTensor(LazyTensor):
    """A tensor of a .safetensors file. The file is mapped only while rows are copied out of it."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
        super().__init__(name, shape, dtype)
        self.path = path

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]

    def part(self, *slices: slice) -> npt.NDArray[Any]:
        """What `slices` of the first axes select, a copy in the type of the file.

        Raises:
            CheckpointCorrupt: the file has become shorter or unreadable.
        """
        try:
            with _opened(self.path) as file:
                return np.array(file.get_slice(self.name)[slices])
        except dependency("safetensors").SafetensorError as e:
            raise CheckpointCorrupt(f"{self.path}: tensor {self.name} cannot be read ({e}); {_AGAIN}") from e

    def _rows(self, start: int, stop: int) -> npt.NDArray[np.generic]:
        return self.part(slice(start, stop))


def safetensors_tensors(path: Path) -> dict[str, SafetensorsTensor]:
    """The tensors of a .safetensors file by name. Only its header is read.

    Raises:
        CheckpointCorrupt: truncated, or a header that is not true of the file.
        Unsupported: a tensor of a type that no checkpoint of ours has.
    """
    tensors = {}
    try:
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118 (the handle is no mapping)
                part = file.get_slice(name)
                tensors[name] = SafetensorsTensor(path, name, tuple(part.get_shape()), str(part.get_dtype()))
    except dependency("safetensors").SafetensorError as e:
        size = path.stat().st_size
        raise CheckpointCorrupt(f"{path}: no whole safetensors file of {size} bytes ({e}); {_AGAIN}") from e
    _require_types(tensors.values(), _ITEM_BYTES)
    return tensors


def require_floats(tensors: Iterable[LazyTensor]) -> None:
    """Refuse tensors of a file that are integers: what they stand for is not said.

    Raises:
        Unsupported: there is one.
    """
    _require_types([tensor for tensor in tensors if isinstance(tensor, SafetensorsTensor)], FLOATS)


def _require_types(tensors: Iterable[SafetensorsTensor], types: Iterable[str]) -> None:
    for tensor in tensors:
        if tensor.dtype not in types:
            raise Unsupported(
                f"{tensor.path}: tensor {tensor.name:.200} is {tensor.dtype}, and only {', '.join(FLOATS)} are read "
                "where config.json names no quantization that packs it so; export the checkpoint this one was "
                "made from"
            )


def _opened(path: Path) -> Any:
    # BF16 arrays need the type that ml_dtypes registers with numpy.
    dependency("ml_dtypes")
    try:
        return dependency("safetensors").safe_open(str(path), framework="numpy")
    except OSError as e:
        raise CheckpointCorrupt(f"{path}: cannot be opened ({e}); {_AGAIN}") from e
