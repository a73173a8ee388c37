"""Weights of an artifact, of whatever dialect, as codes, scales and zero points again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import onnx

from edge.artifact import Artifact, Variant
from edge.errors import ArtifactCorrupt, InvalidArgument
from export.architecture.expected import expected_tensors
from export.graph.cpu_dialect import DOMAIN
from export.graph.panels import ROWS, Panels
from export.quantize import Precision, Quantized, Recipe
from export.quantize.float16 import round_float16
from export.quantize.method import Rows
from export.quantize.packing import Bytes, unpack

# Weights of a few rows in flight.
_ELEMENTS = 1 << 20
_AGAIN = "export the artifact again"


@dataclass(frozen=True)
class _Place:
    """Where a tensor's rows are: in the initializers of which stem, from which row on."""

    stem: str
    first_row: int
    rows: int
    """Of all tensors of the stem."""
    half: int | None = None
    """Of a gated matrix in panels."""


def stored_recipe(artifact: Artifact) -> Recipe:
    """How the weights of an artifact are stored.

    Raises:
        ArtifactCorrupt: what the manifest says is no recipe.
    """
    try:
        return Recipe.from_json(artifact.manifest.recipe)
    except (TypeError, AttributeError, InvalidArgument) as e:
        raise ArtifactCorrupt(f"{artifact.path}: the recipe is none ({e}); {_AGAIN}") from None


class StoredWeights:
    """A `WeightSource`; scales are rounded to float16, and how far that changed them is kept.

    `progress` is told the bytes read since the last call.

    Raises:
        ArtifactCorrupt: an initializer is missing, or not of the size that the spec calls for.
    """

    def __init__(
        self, artifact: Artifact, variant: Variant, recipe: Recipe, progress: Callable[[int], None]
    ) -> None:
        self._artifact, self._variant, self._recipe, self._progress = artifact, variant, recipe, progress
        self._path = artifact.file(variant.model)
        self._shapes = expected_tensors(artifact.spec)
        graph = self._graph()
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        gated = {
            node.input[1]
            for node in graph.node
            if node.domain == DOMAIN and any(a.name == "gated" and a.i for a in node.attribute)
        }
        self._places = {
            tensor: place for name in self._initializers for tensor, place in self._in(name, name in gated)
        }
        self.rounded_scales = 0
        self.largest_change = 0.0
        """Of a scale that was rounded, relative to it."""

    def shape(self, name: str) -> tuple[int, ...]:
        """See `WeightSource.shape`."""
        return self._shapes[name]

    def vector(self, name: str) -> Rows:
        """See `WeightSource.vector`."""
        place = self._place(name)
        kind = self._floats(place.stem)
        size = kind.itemsize
        data = self._bytes(
            place.stem, size * place.first_row, size * self._shapes[name][0], size * place.rows
        )
        return data.view(kind).astype(np.float32)

    def floats(self, name: str) -> Iterator[Rows]:
        """Only codes are taken from an artifact.

        Raises:
            InvalidArgument: always.
        """
        raise InvalidArgument(
            f"{self._path}: {name} is not quantized, and only codes are converted; export from the checkpoint"
        )

    def quantized(self, name: str) -> Iterator[Quantized]:
        """See `WeightSource.quantized`."""
        place, (rows, inputs) = self._place(name), self._shapes[name]
        precision = self._recipe.of(name)
        blocks = -(-inputs // precision.block)
        readers = {"panels": self._panels, "signed": self._signed}
        kind = next((kind for kind in readers if f"{place.stem}.{kind}" in self._initializers), None)
        read = readers[kind] if kind else self._operands
        step = max(1, _ELEMENTS // (blocks * precision.block) // ROWS) * ROWS
        for start in range(0, rows, step):
            first = place.first_row + start
            yield read(place, precision, blocks, first, min(first + step, place.first_row + rows))

    def _operands(self, place: _Place, precision: Precision, blocks: int, start: int, stop: int) -> Quantized:
        """Rows as ONNX Runtime's own operators take them."""
        bits, block, count = precision.bits, precision.block, stop - start

        def rows(kinds: tuple[str, str], nbytes: int) -> Bytes:
            name = next((n for k in kinds if (n := f"{place.stem}.{k}") in self._initializers), None)
            if name is None:
                raise ArtifactCorrupt(f"{self._path} holds no {place.stem}.{kinds[0]}; {_AGAIN}")
            return self._bytes(name, start * nbytes, count * nbytes, place.rows * nbytes).reshape(count, -1)

        codes = rows(("codes", "rows"), blocks * block * bits // 8)
        kind = self._floats(f"{place.stem}.scales", f"{place.stem}.row_scales")
        scales = rows(("scales", "row_scales"), kind.itemsize * blocks).view(kind).astype(np.float32)
        zeros = None
        if precision.zero_points:
            zeros = unpack(rows(("zeros", "row_zeros"), -(-blocks * bits // 8)), bits, blocks)
        codes = unpack(codes, bits, blocks * block)
        return Quantized(codes.reshape(count, blocks, -1), self._rounded(scales, place), zeros)

    def _panels(self, place: _Place, precision: Precision, blocks: int, start: int, stop: int) -> Quantized:
        layout = Panels.of(precision, blocks * precision.block)
        first, last = start // ROWS, layout.count(stop)
        halves = 1 if place.half is None else 2
        panel = halves * layout.nbytes
        data = self._bytes(
            f"{place.stem}.panels", first * panel, (last - first) * panel, layout.count(place.rows) * panel
        )
        panels = data.reshape(last - first, halves, layout.nbytes)[:, place.half or 0]
        return layout.unpack(panels).rows(start - first * ROWS, stop - first * ROWS)

    def _signed(self, place: _Place, precision: Precision, blocks: int, start: int, stop: int) -> Quantized:
        """Rows as DequantizeLinear takes them."""
        bits, count = precision.bits, stop - start

        def rows(kind: str, nbytes: int) -> Bytes:
            name = f"{place.stem}.{kind}"
            if name not in self._initializers:
                raise ArtifactCorrupt(f"{self._path} holds no {name}; {_AGAIN}")
            return self._bytes(name, start * nbytes, count * nbytes, place.rows * nbytes).reshape(count, -1)

        width = blocks * precision.block
        codes = unpack(rows("signed", width * bits // 8), bits, width) ^ np.uint8(1 << (bits - 1))
        scales = rows("half_scales", 2 * blocks).view("<f2").astype(np.float32)
        return Quantized(codes.reshape(count, blocks, -1), self._rounded(scales, place), None)

    def _floats(self, *names: str) -> np.dtype[Any]:
        """What the first of `names` that is there is stored as."""
        found = next((self._initializers[name] for name in names if name in self._initializers), None)
        half = found is not None and found.data_type == onnx.TensorProto.FLOAT16
        return np.dtype("<f2" if half else "<f4")

    def _rounded(self, scales: Rows, place: _Place) -> Rows:
        if not np.isfinite(scales).all():
            raise ArtifactCorrupt(f"{self._path}: a scale of {place.stem} is no finite number; {_AGAIN}")
        rounded = round_float16(scales)
        changed = rounded != scales
        if changed.any():
            before, after = scales[changed].astype(np.float64), rounded[changed]
            self.rounded_scales += len(before)
            self.largest_change = max(self.largest_change, float(np.abs(after / before - 1).max()))
        return rounded

    def _graph(self) -> onnx.GraphProto:
        try:
            return onnx.load_model_from_string(self._path.read_bytes()).graph
        except Exception as e:  # protobuf's own, or the system's
            raise ArtifactCorrupt(f"{self._path} cannot be read ({e}); {_AGAIN}") from None

    def _in(self, initializer: str, gated: bool) -> Iterator[tuple[str, _Place]]:
        """The tensors that an initializer holds."""
        stem, _, kind = initializer.rpartition(".")
        if kind in ("panels", "codes", "rows", "signed"):
            names = [f"{name}.weight" for name in stem.split("+")]
        else:
            stem, names = initializer, initializer.split("+")
        if not all(name in self._shapes for name in names):
            return
        rows = [self._shapes[name][0] for name in names]
        for i, (name, end) in enumerate(zip(names, accumulate(rows), strict=True)):
            yield name, _Place(stem, 0, rows[0], i) if gated else _Place(stem, end - rows[i], sum(rows))

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise ArtifactCorrupt(f"{self._path} holds no {name}; {_AGAIN}")
        return self._places[name]

    def _bytes(self, initializer: str, offset: int, count: int, whole: int) -> Bytes:
        """`count` bytes from `offset` on of an initializer that must have `whole` bytes."""
        tensor = self._initializers[initializer]
        place = {entry.key: entry.value for entry in tensor.external_data}
        try:
            start, length = int(place["offset"]), int(place["length"])
            path = self._artifact.file(f"{self._variant.engine}/{place['location']}")
        except (KeyError, ValueError):
            raise ArtifactCorrupt(f"{self._path}: {initializer} is in no file; {_AGAIN}") from None
        if length != whole or not 0 <= start <= start + length <= path.stat().st_size:
            raise ArtifactCorrupt(
                f"{self._path}: {initializer} is said to be {length} bytes from {start} on in {path.name}, "
                f"expected {whole} bytes inside that file; {_AGAIN}"
            )
        assert 0 <= offset <= offset + count <= whole
        with path.open("rb") as file:
            file.seek(start + offset)
            data = np.frombuffer(file.read(count), np.uint8)
        self._progress(count)
        return data
