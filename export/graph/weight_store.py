"""Weights of a model in the weights file: each stored once, a few rows at a time, in the layout asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from edge.artifact import Part
from edge.errors import TensorError
from export.graph.panels import ROWS, Panels, alternate
from export.graph.weight_source import WeightSource
from export.graph.weights_file import Region, WeightsFile
from export.quantize import Precision, Quantized, Recipe
from export.quantize.float16 import LARGEST
from export.quantize.method import Rows
from export.quantize.packing import Bytes, pack


@dataclass(frozen=True)
class StoredMatrix:
    """A weight matrix [rows, inputs] in the file, without scales and zero points if not quantized."""

    name: str
    rows: int
    inputs: int
    data: Region
    precision: Precision | None = None
    scales: Region | None = None
    zeros: Region | None = None

    @property
    def blocks(self) -> int:
        """Blocks of a row, 0 if not quantized."""
        return -(-self.inputs // self.precision.block) if self.precision else 0


@dataclass(frozen=True)
class StoredPanels:
    """A quantized weight matrix [rows, inputs] in the file, in the layout `panels`."""

    name: str
    rows: int
    inputs: int
    gated: bool
    precision: Precision
    data: Region


@dataclass(frozen=True)
class StoredSigned:
    """A weight matrix [rows, inputs] in the file as ONNX's own types: codes less their middle, and float16 scales.

    `data` holds `width` weights a row, the last block filled up with zeros; without scales it is float16.
    """

    name: str
    rows: int
    inputs: int
    width: int
    data: Region
    precision: Precision | None = None
    scales: Region | None = None


class WeightStore:
    """Takes weights from `source` by their Hugging Face names, which have no `.weight` where a matrix is meant."""

    def __init__(
        self, source: WeightSource, recipe: Recipe, file: WeightsFile, floats: str = "float32"
    ) -> None:
        """`floats`, float32 or float16, is what norms, biases and scales for ONNX Runtime's operators are stored as."""
        self.recipe = recipe
        self.floats = floats
        self._source = source
        self._file = file
        self._matrices: dict[str, StoredMatrix] = {}
        self._panels: dict[str, StoredPanels] = {}
        self._signed: dict[str, StoredSigned] = {}
        self._vectors: dict[str, Region] = {}
        self._parts: dict[str, tuple[int, int]] = {}

    @property
    def parts(self) -> tuple[Part, ...]:
        """What was stored, by kind of layer."""
        return tuple(Part(name=n, parameters=p, bytes=b) for n, (p, b) in self._parts.items())

    def constant(self, array: NDArray[np.generic]) -> Region:
        """An array that is no weight."""
        return self._file.store(array)

    def values(self, name: str) -> Rows:
        """A vector as it is, float32; it is not stored."""
        return self._source.vector(name)

    def vector(self, names: Sequence[str]) -> tuple[str, Region]:
        """The named vectors, one behind the other; under what name.

        Raises:
            TensorError: a number that float16 does not hold, where that is what they are stored as.
        """
        name = "+".join(names)
        if name not in self._vectors:
            values = np.concatenate([self._source.vector(n) for n in names])
            largest = float(np.abs(values).max())
            if self.floats == "float16" and largest > LARGEST:
                raise TensorError(
                    f"tensor {name} holds a number of size {largest:g}, more than the {LARGEST:g} of float16; "
                    "export it for another engine"
                )
            self._vectors[name] = self._file.store(values.astype(self.floats))
            self._count(names, self._vectors[name].nbytes)
        return name, self._vectors[name]

    def matrix(self, names: Sequence[str]) -> StoredMatrix:
        """The rows of the named matrices [outputs, inputs] stored as one, for ONNX Runtime's own operators."""
        name = "+".join(names)
        if name not in self._matrices:
            tensors = [f"{n}.weight" for n in names]
            store = self._quantized if self.recipe.bits else self._float
            self._matrices[name] = store(name, tensors)
        return self._matrices[name]

    def panels(self, names: Sequence[str], *, gated: bool = False) -> StoredPanels:
        """The rows of the named matrices stored as one in the layout `panels`; of two halves if `gated`."""
        name = "+".join(names)
        if name not in self._panels:
            self._panels[name] = self._in_panels(name, [f"{n}.weight" for n in names], gated)
        return self._panels[name]

    def signed(self, names: Sequence[str]) -> StoredSigned:
        """The rows of the named matrices stored as one, for DequantizeLinear; weights have no zero points."""
        name = "+".join(names)
        if name not in self._signed:
            tensors = [f"{n}.weight" for n in names]
            if self.recipe.bits:
                self._signed[name] = self._in_signed(name, tensors)
            else:
                stored = self._float(name, tensors)
                self._signed[name] = StoredSigned(
                    name, stored.rows, stored.inputs, stored.inputs, stored.data
                )
        return self._signed[name]

    def _float(self, name: str, tensors: list[str]) -> StoredMatrix:
        rows, inputs = self._shape(tensors)
        data = self._file.region((rows, inputs), "float16" if self.recipe.weights == "fp16" else "float32")
        for tensor in tensors:
            for part in self._source.floats(tensor):
                data.append(part)
        self._count(tensors, data.nbytes)
        return StoredMatrix(name, rows, inputs, data)

    def _quantized(self, name: str, tensors: list[str]) -> StoredMatrix:
        precision = self._precision(tensors)
        bits, block = precision.bits, precision.block
        rows, inputs = self._shape(tensors)
        data = self._file.region((rows, -(-inputs // block), block * bits // 8), "uint8")
        parts: list[Rows] = []
        points: list[Bytes] = []
        for part in self._rows(tensors):
            data.append(pack(part.codes, bits))
            parts.append(part.scales)
            if part.zeros is not None:
                points.append(pack(part.zeros, bits))
        scales = self._file.store(np.concatenate(parts).astype(self.floats))
        zeros = self._file.store(np.concatenate(points)) if points else None
        self._count(tensors, data.nbytes + scales.nbytes + (zeros.nbytes if zeros else 0))
        return StoredMatrix(name, rows, inputs, data, precision, scales, zeros)

    def _in_signed(self, name: str, tensors: list[str]) -> StoredSigned:
        precision = self._precision(tensors)
        rows, inputs = self._shape(tensors)
        width = inputs + precision.padding(inputs)
        data = self._file.region((rows, width * precision.bits // 8), "uint8")
        # Two's complement of a code less its middle is the code with its first bit turned.
        middle = np.uint8(1 << (precision.bits - 1))
        scales: list[Rows] = []
        for part in self._rows(tensors):
            data.append(pack(part.codes ^ middle, precision.bits))
            scales.append(part.scales)
        stored = self._file.store(np.concatenate(scales).astype(np.float16))
        self._count(tensors, data.nbytes + stored.nbytes)
        return StoredSigned(name, rows, inputs, width, data, precision, stored)

    def _in_panels(self, name: str, tensors: list[str], gated: bool) -> StoredPanels:
        precision = self._precision(tensors)
        rows, inputs = self._shape(tensors)
        layout = Panels.of(precision, inputs)
        halves = [[tensor] for tensor in tensors] if gated else [tensors]
        count = sum(layout.count(self._shape(half)[0]) for half in halves)
        data = self._file.region((count * layout.nbytes,), "uint8")
        packed = [map(layout.pack, _whole_panels(self._rows(half))) for half in halves]
        # The two halves of a gated matrix have the same shape, so that their rows come in the same parts.
        for parts in zip(*packed, strict=True):
            data.append(alternate(*parts) if gated else parts[0])
        self._count(tensors, data.nbytes)
        return StoredPanels(name, rows, inputs, gated, precision, data)

    def _rows(self, tensors: list[str]) -> Iterator[Quantized]:
        return chain.from_iterable(map(self._source.quantized, tensors))

    def _precision(self, tensors: list[str]) -> Precision:
        """The one of all that is stored as one matrix."""
        precision, *others = {self.recipe.of(tensor) for tensor in tensors}
        assert not others, f"{tensors} are stored as one matrix"
        return precision

    def _shape(self, tensors: list[str]) -> tuple[int, int]:
        """Of matrices below each other: (rows, inputs)."""
        shapes = [self._source.shape(tensor) for tensor in tensors]
        return sum(shape[0] for shape in shapes), shapes[0][1]

    def _count(self, tensors: Sequence[str], nbytes: int) -> None:
        part = _part(tensors[0])
        parameters, before = self._parts.get(part, (0, 0))
        parameters += sum(math.prod(self._source.shape(tensor)) for tensor in tensors)
        self._parts[part] = parameters, before + nbytes


def _whole_panels(parts: Iterable[Quantized]) -> Iterator[Quantized]:
    """The same rows in parts of whole panels, all but the last."""
    left: Quantized | None = None
    for part in parts:
        rows = part if left is None else Quantized.joined([left, part])
        whole = len(rows.codes) // ROWS * ROWS
        if whole:
            yield rows.rows(0, whole)
        left = rows.rows(whole, len(rows.codes)) if whole < len(rows.codes) else None
    if left is not None:
        yield left


def _part(name: str) -> str:
    for pattern, part in (
        ("embed_tokens", "embedding"),
        ("lm_head", "head"),
        ("norm", "norms"),
        ("self_attn", "attention"),
        ("mlp", "mlp"),
    ):
        if pattern in name:
            return part
    return "other"
