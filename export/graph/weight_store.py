"""Weights of a checkpoint as initializers of a graph: read, quantized and written a few rows at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnx

from edge.artifact import Part
from edge.errors import TensorError
from export.checkpoint.tensor import LazyTensor
from export.graph.weights_file import Region, WeightsFile
from export.quantize import METHODS, Quantized, Recipe
from export.quantize.method import Rows
from export.quantize.packing import pack

# Elements of a few rows in flight: 4 MB of float32.
_ELEMENTS = 1 << 20

Progress = Callable[[int], None]


@dataclass(frozen=True)
class StoredMatrix:
    """A weight matrix [rows, inputs] in the file. Scales and zero points are None where it is not quantized."""

    name: str
    rows: int
    inputs: int
    blocks: int
    data: Region
    scales: Region | None = None
    zeros: Region | None = None


class WeightStore:
    """Finds weights by their Hugging Face names and stores each once."""

    def __init__(
        self,
        tensors: Mapping[str, LazyTensor],
        recipe: Recipe,
        file: WeightsFile,
        progress: Progress = lambda nbytes: None,
    ) -> None:
        self.recipe = recipe
        self.initializers: list[onnx.TensorProto] = []
        self._tensors = tensors
        self._file = file
        self._progress = progress
        self._matrices: dict[str, StoredMatrix] = {}
        self._vectors: set[str] = set()
        self._parts: dict[str, tuple[int, int]] = {}

    @property
    def parts(self) -> tuple[Part, ...]:
        """What was stored, by kind of layer."""
        return tuple(Part(name=n, parameters=p, bytes=b) for n, (p, b) in self._parts.items())

    def vector(self, names: Sequence[str]) -> str:
        """A float32 initializer of the named vectors, one behind the other; its name."""
        name = names[0] if len(names) == 1 else "+".join(names)
        if name not in self._vectors:
            self._vectors.add(name)
            parts = [self._checked(self._tensors[n], 0, self._tensors[n].shape[0]) for n in names]
            self.constant(name, np.concatenate(parts))
            for part_name, rows in zip(names, parts, strict=True):
                self._count(part_name, rows.size, rows.nbytes)
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        """An initializer that is no weight; its name."""
        self.initializers.append(self._file.store(array).tensor(name))
        return name

    def matrix(self, names: Sequence[str]) -> StoredMatrix:
        """The rows of the named matrices [outputs, inputs] stored as one, as the recipe says."""
        name = "+".join(names)
        if name not in self._matrices:
            tensors = [self._tensors[f"{n}.weight"] for n in names]
            store = self._quantized if self.recipe.bits else self._float
            self._matrices[name] = store(name, tensors)
        return self._matrices[name]

    def _float(self, name: str, tensors: list[LazyTensor]) -> StoredMatrix:
        dtype = "float16" if self.recipe.weights == "fp16" else "float32"
        rows, inputs = sum(t.shape[0] for t in tensors), tensors[0].shape[1]
        data = self._file.region((rows, inputs), dtype)
        for tensor in tensors:
            for start, stop in _spans(tensor):
                part = self._checked(tensor, start, stop)
                if dtype == "float16" and np.abs(part).max() > np.finfo(np.float16).max:
                    raise TensorError(
                        f"{tensor.name} holds {np.abs(part).max():g}, more than fp16 can; export with --weights fp32"
                    )
                data.append(part)
            self._count(tensor.name, tensor.shape[0] * inputs, tensor.shape[0] * inputs * np.dtype(dtype).itemsize)
        return StoredMatrix(name, rows, inputs, 0, data)

    def _quantized(self, name: str, tensors: list[LazyTensor]) -> StoredMatrix:
        recipe = self.recipe
        rows, inputs = sum(t.shape[0] for t in tensors), tensors[0].shape[1]
        blocks = -(-inputs // recipe.block)
        data = self._file.region((rows, blocks, recipe.block * recipe.bits // 8), "uint8")
        scales: list[Rows] = []
        zeros: list[np.ndarray] = []
        for tensor in tensors:
            for part in self._quantize(tensor):
                data.append(pack(part.codes, recipe.bits))
                scales.append(part.scales)
                if part.zeros is not None:
                    zeros.append(pack(part.zeros, recipe.bits))
            size = tensor.shape[0] * blocks
            overhead = size * 4 + (size * recipe.bits // 8 if recipe.zero_points else 0)
            self._count(tensor.name, tensor.shape[0] * inputs, size * recipe.block * recipe.bits // 8 + overhead)
        return StoredMatrix(
            name,
            rows,
            inputs,
            blocks,
            data,
            self._file.store(np.concatenate(scales)),
            self._file.store(np.concatenate(zeros)) if zeros else None,
        )

    def _quantize(self, tensor: LazyTensor) -> Iterator[Quantized]:
        """The tensor's rows quantized in order, on every core, at most a few parts at a time in memory."""
        recipe, method = self.recipe, METHODS[self.recipe.method]
        padding = -tensor.shape[1] % recipe.block

        def work(start: int, stop: int) -> Quantized:
            rows = self._checked(tensor, start, stop)
            if padding:
                rows = np.pad(rows, ((0, 0), (0, padding)))
            return method.quantize(tensor.name, start, rows, recipe.bits, recipe.block, recipe.zero_points)

        workers = len(os.sched_getaffinity(0))
        pending: deque[Future[Quantized]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            try:
                for start, stop in _spans(tensor):
                    pending.append(pool.submit(work, start, stop))
                    if len(pending) > workers:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _checked(self, tensor: LazyTensor, start: int, stop: int) -> Rows:
        rows = tensor.rows(start, stop)
        if not np.isfinite(rows).all():
            where = [int(i) for i in np.argwhere(~np.isfinite(rows))[0]]
            where[0] += start
            value = rows[tuple([where[0] - start, *where[1:]])]
            raise TensorError(f"{tensor.name} holds {value} at {where}; the checkpoint is damaged: download it again")
        self._progress(tensor.nbytes * (stop - start) // max(1, tensor.shape[0]))
        return rows

    def _count(self, name: str, parameters: int, nbytes: int) -> None:
        part = _part(name)
        before = self._parts.get(part, (0, 0))
        self._parts[part] = before[0] + parameters, before[1] + nbytes


def _spans(tensor: LazyTensor) -> Iterator[tuple[int, int]]:
    step = max(1, _ELEMENTS // max(1, int(np.prod(tensor.shape[1:]))))
    for start in range(0, tensor.shape[0], step):
        yield start, min(start + step, tensor.shape[0])


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
