"""Weights of several graphs in one weights file, each stored once: equal ones are known by what is in them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graph.checkpoint_weights import STREAMED
from export.graph.weight_store import StoredMatrix
from export.graph.weights_file import Region, WeightsFile
from export.quantize import Quantized, Recipe
from export.quantize.method import Rows
from export.quantize.packing import pack

# Elements that are quantized together: 4 MB of float32.
_ELEMENTS = 1 << 20


class SharedWeights:
    """What was stored, by the bytes of the source and what became of them."""

    def __init__(self, recipe: Recipe, file: WeightsFile) -> None:
        self.recipe = recipe
        self._file = file
        self._floats: dict[bytes, Region] = {}
        self._matrices: dict[bytes, StoredMatrix] = {}
        self.parameters = 0
        self.nbytes = 0
        """Of all that is stored, scales and zero points included."""

    @property
    def matrices(self) -> int:
        """Matrices that are quantized."""
        return len(self._matrices)

    def tensor(self, name: str, array: NDArray[Any], kind: int) -> onnx.TensorProto:
        """An initializer of the ONNX type `kind` with the values as they are; no scalar."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        key = hashlib.sha256(data.data).digest()
        if key not in self._floats:
            self._floats[key] = self._file.store(data)
            self._count(array.size, data.nbytes)
        return self._floats[key].tensor(name, array.shape, kind)

    def matrix(self, rows: NDArray[Any]) -> StoredMatrix:
        """Float32 [rows, inputs] quantized as the recipe says."""
        key = hashlib.sha256(f"{rows.shape}".encode())
        for part in _parts(rows):
            key.update(part.data)
        name = key.digest()
        if name not in self._matrices:
            self._matrices[name] = self._store(rows)
        return self._matrices[name]

    def _store(self, rows: NDArray[Any]) -> StoredMatrix:
        precision, (count, inputs) = self.recipe.precision, rows.shape
        bits, block = precision.bits, precision.block
        method = STREAMED[self.recipe.method]
        data = self._file.region((count, -(-inputs // block), block * bits // 8), "uint8")
        found: list[Quantized] = []
        for part in _parts(rows):
            quantized = method.quantize(precision.padded(part), precision)
            data.append(pack(quantized.codes, bits))
            # Codes are in the file: what is kept is small.
            found.append(Quantized(quantized.codes[:0], quantized.scales, quantized.zeros))
        scales = self._file.store(np.concatenate([part.scales for part in found]))
        points = [pack(part.zeros, bits) for part in found if part.zeros is not None]
        zeros = self._file.store(np.concatenate(points)) if points else None
        self._count(math.prod(rows.shape), data.nbytes + scales.nbytes + (zeros.nbytes if zeros else 0))
        return StoredMatrix(f"matrix{len(self._matrices)}", count, inputs, data, precision, scales, zeros)

    def _count(self, parameters: int, nbytes: int) -> None:
        self.parameters += parameters
        self.nbytes += nbytes


def _parts(rows: NDArray[Any]) -> Iterator[Rows]:
    """A few rows at a time, contiguous: a transposed matrix is never copied whole."""
    step = max(1, _ELEMENTS // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        yield np.ascontiguousarray(rows[start : start + step], np.float32)
