"""The header of a GGUF file, read with every count and length checked before anything is allocated for it."""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import CheckpointCorrupt, Unsupported

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER_BYTES = 256 << 20
MAX_KEY_BYTES = 1 << 16
MAX_ELEMENTS = 1 << 22
"""Entries of all arrays together: three times what the largest vocabularies need."""
MAX_TENSORS = 1 << 16
MAX_DIMS = 4
DEFAULT_ALIGNMENT = 32

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
# The fewest bytes: a key and a value of one; a tensor of one dimension with a name of one.
_MIN_ENTRY = 8 + 1 + 4 + 1
_MIN_TENSOR = 8 + 1 + 4 + 8 + 4 + 8


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: `shape` rows first, ggml `type`, `offset` in bytes from the start of the data."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """All of a GGUF but its data."""

    version: int
    metadata: dict[str, Any]
    """Numbers, booleans, strings, and lists of one of them."""
    tensors: dict[str, TensorInfo]
    data_start: int
    """Byte of the file where the data begins."""


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header. The data behind it may be cut off: `open_gguf` checks that.

    Raises:
        CheckpointCorrupt: no GGUF, truncated, or a header whose counts, lengths or offsets cannot be true.
        Unsupported: an older version, or the other byte order.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise CheckpointCorrupt(f"{path}: begins without GGUF, so it is no GGUF file; name another")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Header(path, data).read()
    except OSError as e:
        raise CheckpointCorrupt(
            f"{path}: cannot be read ({e.strerror}); get it again from its publisher"
        ) from e


class _Header:
    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.at = len(MAGIC)
        self.end = min(len(data), MAX_HEADER_BYTES)
        self.elements = 0

    def read(self) -> GgufHeader:
        version = self._scalar("I", "version")
        if version not in VERSIONS:
            if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
                raise Unsupported(f"{self.path}: a big-endian GGUF; get the little-endian one")
            raise Unsupported(
                f"{self.path}: GGUF version {version} is not known, only 2 and 3; get a newer one"
            )
        tensors, entries = self._scalar("Q", "tensor count"), self._scalar("Q", "metadata count")
        self._count("metadata count", entries, _MIN_ENTRY)
        self._count("tensor count", tensors, _MIN_TENSOR, MAX_TENSORS)
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            key = self._name("metadata key")
            if key in metadata:
                raise self._corrupt(f"metadata key {key!r:.80} appears twice")
            metadata[key] = self._value(key)
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(alignment) is not int or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
            raise self._corrupt(f"general.alignment is {alignment!r:.80}, not a power of two")
        infos: dict[str, TensorInfo] = {}
        for _ in range(tensors):
            info = self._tensor(alignment)
            if info.name in infos:
                raise self._corrupt(f"tensor {info.name!r:.80} appears twice")
            infos[info.name] = info
        return GgufHeader(version, metadata, infos, data_start=-(-self.at // alignment) * alignment)

    def _tensor(self, alignment: int) -> TensorInfo:
        name = self._name("tensor name")
        rank = self._scalar("I", f"dimensions of tensor {name}")
        if not 1 <= rank <= MAX_DIMS:
            raise self._corrupt(f"tensor {name:.80} has {rank} dimensions, not 1 to {MAX_DIMS}")
        sizes = tuple(self._scalar("Q", f"dimensions of tensor {name}") for _ in range(rank))
        kind, offset = (
            self._scalar("I", f"type of tensor {name}"),
            self._scalar("Q", f"offset of tensor {name}"),
        )
        if not 1 <= math.prod(sizes) < 2**48:
            raise self._corrupt(f"tensor {name:.80} has dimensions {sizes}")
        if offset % alignment:
            raise self._corrupt(f"tensor {name:.80} begins at {offset}, not a multiple of {alignment}")
        return TensorInfo(name, sizes[::-1], kind, offset)

    def _value(self, key: str) -> Any:
        kind = self._scalar("I", key)
        if kind == _STRING:
            return self._string(key)
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            raise self._corrupt(f"{key:.80} has the unknown type {kind}")
        value = self._scalar(_SCALARS[kind], key)
        return self._boolean(key, value) if kind == _BOOL else value

    def _array(self, key: str) -> list[Any]:
        kind, count = self._scalar("I", key), self._scalar("Q", key)
        if kind == _ARRAY:
            raise self._corrupt(f"{key:.80} is an array of arrays")
        if kind != _STRING and kind not in _SCALARS:
            raise self._corrupt(f"{key:.80} is an array of the unknown type {kind}")
        width = 8 if kind == _STRING else struct.calcsize("<" + _SCALARS[kind])
        self._count(f"{key} length", count, width, MAX_ELEMENTS - self.elements)
        self.elements += count
        if kind == _STRING:
            return self._strings(key, count)
        raw = np.frombuffer(self._bytes(count * width, key), "<" + _SCALARS[kind])
        if kind == _BOOL:
            return [self._boolean(key, value) for value in raw.tolist()]
        values: list[Any] = raw.tolist()
        return values

    def _strings(self, key: str, count: int) -> list[str]:
        # The one loop that runs over a whole vocabulary: 300,000 times in a few tenths of a second.
        data, at, end = self.data, self.at, self.end
        length = struct.Struct("<Q").unpack_from
        strings = []
        try:
            for _ in range(count):
                stop = at + 8 + length(data, at)[0]
                if stop > end:
                    raise self._past_end(key, stop)
                strings.append(data[at + 8 : stop].decode())
                at = stop
        except struct.error:
            raise self._past_end(key, at + 8) from None
        except UnicodeDecodeError as e:
            raise self._corrupt(f"{key:.80} holds a string that is not UTF-8 ({e})") from e
        self.at = at
        return strings

    def _name(self, what: str) -> str:
        name = self._string(what, MAX_KEY_BYTES)
        if not name:
            raise self._corrupt(f"a {what} is empty")
        return name

    def _string(self, what: str, most: int = MAX_HEADER_BYTES) -> str:
        length = self._scalar("Q", what)
        if length > min(most, self.end):
            raise self._corrupt(f"{what:.80} is {length} bytes long, more than {min(most, self.end)}")
        try:
            return self._bytes(length, what).decode()
        except UnicodeDecodeError as e:
            raise self._corrupt(f"{what:.80} is not UTF-8 ({e})") from e

    def _boolean(self, key: str, value: int) -> bool:
        if value not in (0, 1):
            raise self._corrupt(f"{key:.80} holds the boolean {value}")
        return bool(value)

    def _scalar(self, code: str, what: str) -> Any:
        return struct.unpack("<" + code, self._bytes(struct.calcsize("<" + code), what))[0]

    def _bytes(self, count: int, what: str) -> bytes:
        stop = self.at + count
        if stop > self.end:
            raise self._past_end(what, stop)
        self.at, start = stop, self.at
        return self.data[start:stop]

    def _count(self, what: str, count: int, width: int, most: int | None = None) -> None:
        room = (self.end - self.at) // width
        if count > room or (most is not None and count > most):
            raise self._corrupt(
                f"{what:.80} is {count}, but there is room for {room if most is None else min(room, most)}"
            )

    def _past_end(self, what: str, stop: int) -> CheckpointCorrupt:
        if len(self.data) > MAX_HEADER_BYTES:
            return self._corrupt(f"{what:.80} ends at byte {stop}, past the {MAX_HEADER_BYTES} of a header")
        return self._corrupt(f"{what:.80} ends at byte {stop}, but the file has {len(self.data)} bytes")

    def _corrupt(self, problem: str) -> CheckpointCorrupt:
        return CheckpointCorrupt(
            f"{self.path}: in the GGUF header, {problem}; get the file again from its publisher"
        )
