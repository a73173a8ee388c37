"""The weights file beside a graph: filled a few rows at a time, so that memory never holds the model."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx
from numpy.typing import NDArray

from edge.errors import StorageError

# Tensors start on a page: each is mapped, read ahead and dropped alone.
_PAGE = 4096
_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "uint8": onnx.TensorProto.UINT8,
}


class Region:
    """A tensor's place in the file, filled from front to back."""

    def __init__(self, file: WeightsFile, offset: int, shape: tuple[int, ...], dtype: str) -> None:
        self._file = file
        self.offset = offset
        self.shape = shape
        self.dtype = dtype
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._written = 0

    def append(self, array: NDArray[np.generic]) -> None:
        """Write the next elements, in C order."""
        data = np.ascontiguousarray(array, dtype=self.dtype).reshape(-1).view(np.uint8)
        self._file.write_at(self.offset + self._written, data)
        self._written += data.nbytes

    def tensor(
        self, name: str, shape: tuple[int, ...] | None = None, kind: int | None = None
    ) -> onnx.TensorProto:
        """An initializer whose data is this region, seen as `shape`; several may share one region.

        `kind` is an ONNX type where that is not the region's own, such as INT4 for bytes of two codes each.
        """
        assert self._written == self.nbytes, f"{name}: {self._written} of {self.nbytes} bytes written"
        data_type = _TYPES[self.dtype] if kind is None else kind
        tensor = onnx.TensorProto(name=name, data_type=data_type, dims=shape or self.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": self._file.path.name, "offset": self.offset, "length": self.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor


class WeightsFile:
    """Hands out regions one behind the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            self._file = path.open("wb", buffering=0)
        self._end = 0

    def region(self, shape: tuple[int, ...], dtype: str) -> Region:
        """A place for a tensor of `shape` and NumPy type `dtype`."""
        region = Region(self, self._end, shape, dtype)
        self._end = -(-(self._end + region.nbytes) // _PAGE) * _PAGE
        return region

    def store(self, array: NDArray[np.generic]) -> Region:
        """A region filled with `array`."""
        region = self.region(array.shape, str(array.dtype))
        region.append(array)
        return region

    def write_at(self, offset: int, data: NDArray[np.uint8]) -> None:
        """Write bytes at `offset`.

        Raises:
            StorageError: the disk is full or refuses.
        """
        with writing(self.path):
            self._file.seek(offset)
            view = data.data
            while view:
                view = view[self._file.write(view) :]

    def close(self) -> None:
        """Close the file, padded to its last page; errors as `write_at`."""
        with writing(self.path):
            self._file.truncate(self._end)
            self._file.close()

    def __enter__(self) -> WeightsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


@contextmanager
def writing(path: Path, elsewhere: str = "choose another output with -o") -> Iterator[None]:
    """Around every write below `path`: what the operating system refuses is told as a StorageError.

    `elsewhere` is what to do where this place has no room or cannot be written.
    """
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"the disk is full; free some room or {elsewhere}"
        else:
            what = f"cannot be written ({e.strerror or e}); {elsewhere}"
        raise StorageError(f"{path}: {what}") from e
