"""Weights read from a checkpoint, checked, and quantized as the recipe says."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np

from edge.errors import TensorError
from export.checkpoint.tensor import LazyTensor
from export.quantize import Precision, Quantized, Recipe
from export.quantize.float16 import LARGEST
from export.quantize.hqq import Hqq
from export.quantize.method import Method, Rows
from export.quantize.rtn import RoundToNearest

# Elements of a few rows in flight: 4 MB of float32.
_ELEMENTS = 1 << 20
# The largest weight of each kind: scales are float16, as fp16 weights are.
_LARGEST = {"fp32": float(np.finfo(np.float32).max), "fp16": LARGEST, "int8": LARGEST, "int4": LARGEST}

# What can do with weights alone, a few rows at a time.
STREAMED: dict[str, Method] = {"rtn": RoundToNearest(), "hqq": Hqq()}

Progress = Callable[[int], None]


class CheckpointWeights:
    """A `WeightSource`; `progress` is told the checkpoint's bytes that were worked through since the last call.

    With `keep`, what the checkpoint has as codes that the recipe can hold is not quantized.
    """

    def __init__(
        self, tensors: Mapping[str, LazyTensor], recipe: Recipe, progress: Progress, *, keep: bool = False
    ) -> None:
        self._tensors, self._recipe, self._progress, self._keep = tensors, recipe, progress, keep

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource.shape`."""
        return self._tensors[name].shape

    def vector(self, name: str) -> Rows:
        """See `WeightSource.vector`."""
        tensor = self._tensors[name]
        values = _read(tensor, 0, tensor.shape[0], "fp32")
        self._progress(tensor.nbytes)
        return values

    def floats(self, name: str) -> Iterator[Rows]:
        """See `WeightSource.floats`."""
        tensor = self._tensors[name]
        for start, stop in _spans(tensor):
            yield _read(tensor, start, stop, self._recipe.weights)
            self._progress(_nbytes(tensor, start, stop))

    def quantized(self, name: str) -> Iterator[Quantized]:
        """See `WeightSource.quantized`; on every core, at most a few parts at a time in memory."""
        tensor, recipe, method = self._tensors[name], self._recipe, STREAMED[self._recipe.method]
        precision, grid = recipe.of(name), self._grid(name)

        def work(start: int, stop: int) -> Quantized:
            if grid is not None:
                return _codes(tensor, start, stop).held(grid, precision)
            rows = _read(tensor, start, stop, recipe.weights)
            return method.quantize(precision.padded(rows), precision)

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

    def keeps(self, name: str) -> bool:
        """Whether the checkpoint's own codes are taken."""
        return self._grid(name) is not None

    def _grid(self, name: str) -> Precision | None:
        grid = self._tensors[name].grid if self._keep else None
        return grid if grid is not None and self._recipe.of(name).holds(grid) else None


def _codes(tensor: LazyTensor, start: int, stop: int) -> Quantized:
    """As `_read`, of a tensor with a grid."""
    codes = tensor.codes(start, stop)
    if not np.isfinite(codes.scales).all():
        # Which says where.
        _read(tensor, start, stop, "fp32")
    return codes


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
    if np.isfinite(value):
        advice = f"more than the {most:g} of {kind}; export with --weights fp32"
    else:
        advice = "which is no weight; the checkpoint is damaged, get it again from its publisher"
    raise TensorError(f"tensor {tensor.name} holds {value:g} at {where}, {advice}")


def _spans(tensor: LazyTensor) -> Iterator[tuple[int, int]]:
    step = max(1, _ELEMENTS // math.prod(tensor.shape[1:]))
    for start in range(0, tensor.shape[0], step):
        yield start, min(start + step, tensor.shape[0])


def _nbytes(tensor: LazyTensor, start: int, stop: int) -> int:
    return tensor.nbytes * (stop - start) // tensor.shape[0]
