"""A .safetensors file: its header checked by the safetensors library, its tensors read by rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import CheckpointCorrupt, Unsupported
from export.checkpoint.dependency import dependency
from export.checkpoint.tensor import LazyTensor

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_AGAIN = "get it again from its publisher"


class SafetensorsTensor(LazyTensor):
    """A tensor of a .safetensors file. The file is mapped only while rows are copied out of it."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: str) -> None:
        super().__init__(name, shape, dtype)
        self.path = path

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    def _rows(self, start: int, stop: int) -> npt.NDArray[np.generic]:
        try:
            with _opened(self.path) as file:
                rows: npt.NDArray[np.generic] = file.get_slice(self.name)[start:stop]
                return np.array(rows, dtype=np.float32)
        except dependency("safetensors").SafetensorError as e:
            raise CheckpointCorrupt(f"{self.path}: tensor {self.name} cannot be read ({e}); {_AGAIN}") from e


def safetensors_tensors(path: Path) -> dict[str, SafetensorsTensor]:
    """The tensors of a .safetensors file by name. Only its header is read.

    Raises:
        CheckpointCorrupt: truncated, or a header that is not true of the file.
        Unsupported: a tensor that is not F32, F16 or BF16.
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
    for tensor in tensors.values():
        if tensor.dtype not in ITEM_BYTES:
            raise Unsupported(
                f"{path}: tensor {tensor.name:.200} is {tensor.dtype}, and only {', '.join(ITEM_BYTES)} "
                "are read from safetensors; export the checkpoint this one was made from"
            )
    return tensors


def _opened(path: Path) -> Any:
    # BF16 arrays need the type that ml_dtypes registers with numpy.
    dependency("ml_dtypes")
    try:
        return dependency("safetensors").safe_open(str(path), framework="numpy")
    except OSError as e:
        raise CheckpointCorrupt(f"{path}: cannot be opened ({e}); {_AGAIN}") from e
