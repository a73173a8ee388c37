"""GgufTensor: a tensor of a GGUF file, unpacked to float32 by the gguf library."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import CheckpointCorrupt, Unsupported
from export.checkpoint.dependency import dependency
from export.checkpoint.gguf_codes import GRIDS, codes_of
from export.checkpoint.gguf_header import GgufHeader, TensorInfo
from export.checkpoint.tensor import LazyTensor
from export.quantize import Precision, Quantized

Indices = npt.NDArray[np.int64]


class GgufTensor(LazyTensor):
    """A tensor of a GGUF file. Reads copy out of the file: none of it stays mapped."""

    def __init__(
        self, path: Path, info: TensorInfo, start: int, *, name: str | None = None, head_dim: int = 0
    ) -> None:
        """A tensor beginning at byte `start` of the file, called `name` in Hugging Face's terms.

        With a `head_dim` the rows of each head are stored pairwise, (i, i + head_dim/2) side by side, and
        read in Hugging Face's order.
        """
        kind = _ggml_type(path, info)
        block, block_bytes = dependency("gguf").GGML_QUANT_SIZES[kind]
        if info.shape[-1] % block:
            raise CheckpointCorrupt(
                f"{path}: tensor {info.name:.80} has rows of {info.shape[-1]}, not a multiple of the {block} "
                f"of {kind.name}; get the file again from its publisher"
            )
        super().__init__(name or info.name, info.shape, kind.name)
        self.path = path
        self.stored_name = info.name
        self._kind = kind
        self._start = start
        self._head_dim = head_dim
        # A vector is one stored row, and its rows are blocks or single numbers of it.
        self._vector = len(info.shape) == 1
        self._unit: int = block if self._vector else 1
        self._units: int = info.shape[0] // self._unit
        self._unit_bytes: int = math.prod(info.shape) // block * block_bytes // self._units

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self._units * self._unit_bytes

    @property
    def stop(self) -> int:
        """Byte of the file after the last of this tensor."""
        return self._start + self.nbytes

    def renamed(self, name: str, head_dim: int = 0) -> GgufTensor:
        """The same tensor under its Hugging Face name, its rows in that order where `head_dim` is given."""
        info = TensorInfo(self.stored_name, self.shape, self._kind.value, 0)
        return GgufTensor(self.path, info, self._start, name=name, head_dim=head_dim)

    @property
    def grid(self) -> Precision | None:
        """See `LazyTensor.grid`."""
        return None if self._vector else GRIDS.get(self._kind.name)

    def codes(self, start: int, stop: int) -> Quantized:
        """See `LazyTensor.codes`."""
        if self.grid is None:
            return super().codes(start, stop)
        self._require(start, stop)
        return codes_of(self._raw(*self._places(start, stop)), self._kind.name)

    def _rows(self, start: int, stop: int) -> npt.NDArray[np.generic]:
        return self._stored(*self._places(start, stop))

    def _places(self, start: int, stop: int) -> tuple[int, int, Indices | None]:
        """Which stored rows to read for some in Hugging Face's order, and in which order these are among them."""
        if not self._head_dim:
            return start, stop, None
        head, half = self._head_dim, self._head_dim // 2
        rows = np.arange(start, stop)
        within = rows % head
        sources = rows - within + within % half * 2 + within // half
        first = start - start % head
        return first, min(-(-stop // head) * head, self.shape[0]), sources - first

    def _raw(self, start: int, stop: int, picked: Indices | None) -> npt.NDArray[np.uint8]:
        """The bytes of units."""
        first, last = start // self._unit, -(-stop // self._unit)
        count = (last - first) * self._unit_bytes
        try:
            raw = np.fromfile(self.path, np.uint8, count, offset=self._start + first * self._unit_bytes)
        except OSError as e:
            raise CheckpointCorrupt(
                f"{self.path}: tensor {self.stored_name:.80} cannot be read ({e}); get the file again"
            ) from e
        if raw.size < count:
            raise truncated(self.path, self.stored_name, count, raw.size)
        raw = raw.reshape(last - first, self._unit_bytes)
        if picked is not None and not self._vector:
            raw = raw[picked]
        return raw

    def _stored(self, start: int, stop: int, picked: Indices | None) -> npt.NDArray[np.generic]:
        raw = self._raw(start, stop, picked)
        # Scales may be any bits; whoever reads the numbers checks them.
        with np.errstate(all="ignore"):
            values: npt.NDArray[np.float32] = dependency("gguf.quants").dequantize(raw, self._kind)
        if not self._vector:
            return values.reshape(-1, *self.shape[1:])
        before = start % self._unit
        values = values.reshape(-1)[before : before + stop - start]
        return values if picked is None else values[picked]


def gguf_tensors(path: Path, header: GgufHeader) -> dict[str, GgufTensor]:
    """Every tensor of a file by its GGUF name.

    Raises:
        CheckpointCorrupt: the data of one lies past the end of the file, or its rows are no whole blocks.
        Unsupported: the gguf library cannot unpack the type of one.
    """
    size = path.stat().st_size
    tensors = {}
    for info in header.tensors.values():
        tensor = GgufTensor(path, info, header.data_start + info.offset)
        if tensor.stop > size:
            raise truncated(path, info.name, tensor.nbytes, max(0, size - header.data_start - info.offset))
        tensors[info.name] = tensor
    return tensors


def truncated(path: Path, name: str, needed: int, present: int) -> CheckpointCorrupt:
    """The error for a tensor whose data is cut off."""
    return CheckpointCorrupt(
        f"{path}: tensor {name:.80} needs {needed} bytes and the file has {present} of them; "
        "the download is incomplete, get it again"
    )


def _ggml_type(path: Path, info: TensorInfo) -> Any:
    try:
        kind = dependency("gguf").GGMLQuantizationType(info.type)
        name = kind.name
    except ValueError:
        name, readable = f"number {info.type}", False
    else:
        readable = _readable(kind)
    if not readable:
        raise Unsupported(
            f"{path}: tensor {info.name:.80} has the ggml type {name}, which gguf {_gguf_version()} cannot "
            "unpack; update gguf, or get the model in another type such as Q8_0 or Q4_K"
        )
    return kind


@cache
def _readable(kind: Any) -> bool:
    sizes = dependency("gguf").GGML_QUANT_SIZES
    if kind not in sizes:
        return False
    try:
        with np.errstate(all="ignore"):
            dependency("gguf.quants").dequantize(np.zeros((1, sizes[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _gguf_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gguf")
    except PackageNotFoundError:
        return "(unknown version)"
