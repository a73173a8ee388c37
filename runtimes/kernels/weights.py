"""The weights of the `cpu` variant: its file mapped once, read-only, in huge pages where the system has them."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.artifact import Artifact, Variant
from edge.artifact.fields import parse_json, shown
from edge.errors import ArtifactCorrupt

FILE, INDEX = "weights.bin", "weights.json"

_PANELS = ".panels"
_TYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "uint8": np.dtype("u1")}
_LARGEST_INDEX, _MOST_DIMENSIONS = 16 << 20, 8
_LARGEST_COUNT = (1 << 63) - 1
# A cache line: what vector reads in the kernels may count on.
_ALIGNMENT = 64
_AGAIN = "export the artifact again"

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An entry of the index; `offset` and `length` in bytes."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    length: int


def map_weights(artifact: Artifact, variant: Variant) -> dict[str, Array]:
    """The tensors of `variant` as read-only views of its weights file, which stays mapped as long as one lives.

    Empty where the artifact has no index: written before there was one.

    Raises:
        ArtifactCorrupt: the index is none, or names what is not in the file.
    """
    folder = PurePosixPath(variant.model).parent
    index = str(folder / INDEX)
    if index not in variant.files:
        return {}
    path = artifact.file(str(folder / FILE))
    listed = artifact.file(index)
    try:
        tensors = read_index(listed, path.stat().st_size)
        data = _map(path, max(tensor.offset + tensor.length for tensor in tensors))
    except OSError as e:
        raise ArtifactCorrupt(
            f"{e.filename or path} cannot be read ({e.strerror}); copy or export the artifact again"
        ) from None
    return {
        tensor.name: data[tensor.offset : tensor.offset + tensor.length]
        .view(_TYPES[tensor.type])
        .reshape(tensor.shape)
        for tensor in tensors
    }


def read_index(path: Path, size: int) -> list[Tensor]:
    """The index at `path` of a weights file of `size` bytes.

    Raises:
        ArtifactCorrupt: it is none, or names what is not in such a file.
        OSError
    """
    with path.open("rb") as file:
        text = file.read(_LARGEST_INDEX + 1)
    if len(text) > _LARGEST_INDEX:
        raise ArtifactCorrupt(f"{path} is larger than {_LARGEST_INDEX >> 20} MiB; {_AGAIN}")
    try:
        entries = parse_json(text.decode("utf-8"))
    except ValueError as e:
        raise ArtifactCorrupt(f"{path} is not JSON ({e}); {_AGAIN}") from None
    if not isinstance(entries, list) or not entries:
        raise ArtifactCorrupt(f"{path} is {shown(entries)}, expected a list of tensors; {_AGAIN}")
    tensors = [_tensor(f"{path}: tensor {i}", entry, size) for i, entry in enumerate(entries)]
    names: set[str] = set()
    for tensor in tensors:
        if tensor.name in names:
            raise ArtifactCorrupt(f"{path} names {shown(tensor.name)} twice; {_AGAIN}")
        names.add(tensor.name)
    return tensors


def _tensor(where: str, entry: Any, size: int) -> Tensor:
    keys = list(Tensor.__dataclass_fields__)
    if not isinstance(entry, dict) or set(entry) != set(keys):
        raise ArtifactCorrupt(
            f"{where} is {shown(entry)}, expected an object with {', '.join(keys)}; {_AGAIN}"
        )
    name, type_, shape = entry["name"], entry["type"], entry["shape"]
    if not isinstance(name, str) or not name:
        raise _wrong(where, "name", name, "a text")
    # ONNX Runtime does not compare the type with the graph's, and the kernels would read floats behind a tensor's end.
    expected = "uint8" if name.endswith(_PANELS) else "float32"
    if type_ != expected:
        raise _wrong(where, "type", type_, f"{expected} for {shown(name)}")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= _MOST_DIMENSIONS
        or not all(_is_count(n) and n for n in shape)
    ):
        raise _wrong(where, "shape", shape, f"1 to {_MOST_DIMENSIONS} whole numbers above 0")
    for key in ("offset", "length"):
        if not _is_count(entry[key]):
            raise _wrong(where, key, entry[key], f"a count of at most {_LARGEST_COUNT}")
    tensor = Tensor(name=name, type=type_, shape=tuple(shape), offset=entry["offset"], length=entry["length"])
    element = _TYPES[type_].itemsize
    whole = math.prod(shape) * element
    if tensor.length != whole:
        raise _wrong(where, "length", tensor.length, f"{whole} bytes for {shown(shape)} of {type_}")
    if tensor.offset % _ALIGNMENT:
        raise _wrong(where, "offset", tensor.offset, f"a multiple of {_ALIGNMENT}")
    if tensor.offset + tensor.length > size:
        raise ArtifactCorrupt(
            f"{where} is said to be {tensor.length} bytes from {tensor.offset} on, in a file of {size}; {_AGAIN}"
        )
    return tensor


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_COUNT


def _wrong(where: str, key: str, value: Any, expected: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(f"{where}: {key} is {shown(value)}, expected {expected}; {_AGAIN}")


def _map(path: Path, needed: int) -> NDArray[np.uint8]:
    """All bytes of `path`, at least `needed`."""
    fd = os.open(path, os.O_RDONLY)
    try:
        # Asked of what is mapped, not of the name: a read behind the end of the file would end the process.
        size = os.fstat(fd).st_size
        if size < needed:
            raise ArtifactCorrupt(
                f"{path} has {size} bytes, {needed} are needed; copy or export the artifact again"
            )
        mapped = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
    finally:
        os.close(fd)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # Only advice: older kernels and most file systems refuse it or do nothing.
        with contextlib.suppress(OSError):
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, np.uint8)
