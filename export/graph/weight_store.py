"""Weights of a checkpoint as initializers of a graph: read, quantized and written a few rows at a time."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import onnx

from edge.artifact import Part
from edge.errors import TensorError
from export.checkpoint.tensor import LazyTensor
from export.graph.weights_file import Region, WeightsFile
from export.quantize import METHODS, Quantized, Recipe
from export.quantize.method import Rows
from export.quantize.packing import Bytes, pack

# Elements of a few rows in flight: 4 MB of float32.
_ELEMENTS = 1 << 20
# The largest weight of each kind. Far above any real one, squares of a block's weights overflow float32.
_LARGEST = {"fp32": float(np.finfo(np.float32).max), "fp16": 65504.0, "int8": 1e15, "int4": 1e15}

Progress = Callable[[int], None]


@dataclass(frozen=True)
class StoredMatrix:
    """A weight matrix [rows, inputs] in the file, without scales and zero points if not quantized."""

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
        name = "+".join(names)
        if name not in self._vectors:
            self._vectors.add(name)
            tensors = [self._tensors[n] for n in names]
            parts = [_read(tensor, 0, tensor.shape[0], "fp32") for tensor in tensors]
            self.constant(name, np.concatenate(parts))
            for tensor, values in zip(tensors, parts, strict=True):
                self._progress(tensor.nbytes)
                self._count(tensor, values.nbytes)
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
                data.append(_read(tensor, start, stop, self.recipe.weights))
                self._progress(_nbytes(tensor, start, stop))
            self._count(tensor, tensor.shape[0] * inputs * np.dtype(dtype).itemsize)
        return StoredMatrix(name, rows, inputs, 0, data)

    def _quantized(self, name: str, tensors: list[LazyTensor]) -> StoredMatrix:
        recipe = self.recipe
        rows, inputs = sum(t.shape[0] for t in tensors), tensors[0].shape[1]
        blocks = -(-inputs // recipe.block)
        data = self._file.region((rows, blocks, recipe.block * recipe.bits // 8), "uint8")
        scales: list[Rows] = []
        zeros: list[Bytes] = []
        for tensor in tensors:
            nbytes = 0
            for part in self._quantize(tensor):
                codes = pack(part.codes, recipe.bits)
                data.append(codes)
                scales.append(part.scales)
                nbytes += codes.nbytes + part.scales.nbytes
                if part.zeros is not None:
                    zeros.append(pack(part.zeros, recipe.bits))
                    nbytes += zeros[-1].nbytes
            self._count(tensor, nbytes)
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
            rows = _read(tensor, start, stop, recipe.weights)
            if padding:
                rows = np.pad(rows, ((0, 0), (0, padding)))
            return method.quantize(tensor.name, start, rows, recipe.bits, recipe.block, recipe.zero_points)

        workers = len(os.sched_getaffinity(0))
        pending: deque[tuple[int, Future[Quantized]]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            try:
                spans = _spans(tensor)
                while True:
                    for start, stop in islice(spans, workers + 1 - len(pending)):
                        pending.append((_nbytes(tensor, start, stop), pool.submit(work, start, stop)))
                    if not pending:
                        return
                    nbytes, future = pending.popleft()
                    yield future.result()
                    self._progress(nbytes)
            finally:
                for _, future in pending:
                    future.cancel()

    def _count(self, tensor: LazyTensor, nbytes: int) -> None:
        part = _part(tensor.name)
        parameters, before = self._parts.get(part, (0, 0))
        self._parts[part] = parameters + math.prod(tensor.shape), before + nbytes


def _read(tensor: LazyTensor, start: int, stop: int, kind: str) -> Rows:
    """Rows `start` to `stop`, sure to be finite and what weights of `kind` can hold.

    Raises:
        TensorError: naming the first value that is not, and where it is.
    """
    rows = tensor.rows(start, stop)
    most = _LARGEST[kind]
    # Written so that NaN, which no comparison holds for, fails.
    if rows.max() <= most and rows.min() >= -most:
        return rows
    wrong = np.argwhere(~(np.abs(rows) <= most))[0]
    value, where = rows[tuple(wrong)], [int(wrong[0]) + start, *map(int, wrong[1:])]
    if np.isfinite(value) and kind == "fp16":
        advice = f"more than the {most:g} of fp16; export with --weights fp32"
    else:
        advice = "which is no weight; the checkpoint is damaged, get it again from its publisher"
    raise TensorError(f"tensor {tensor.name} holds {value:g} at {where}, {advice}")


def _spans(tensor: LazyTensor) -> Iterator[tuple[int, int]]:
    step = max(1, _ELEMENTS // math.prod(tensor.shape[1:]))
    for start in range(0, tensor.shape[0], step):
        yield start, min(start + step, tensor.shape[0])


def _nbytes(tensor: LazyTensor, start: int, stop: int) -> int:
    return tensor.nbytes * (stop - start) // tensor.shape[0]


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
