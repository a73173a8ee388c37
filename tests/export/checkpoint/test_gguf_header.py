"""The GGUF header: beside the gguf library's writer and reader, and against claims that are not true."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import gguf as library
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import CheckpointCorrupt, CheckpointError, Unsupported
from export.checkpoint.gguf_file import read_gguf
from export.checkpoint.gguf_header import MAX_ELEMENTS, read_gguf_header
from tests import models
from tests.export.checkpoint.gguf_bytes import (
    ARRAY,
    BOOL,
    FLOAT32,
    STRING,
    UINT8,
    UINT32,
    array,
    entry,
    gguf,
    tensor,
    text,
    uint32,
)

HUGE = 2**60
FOUR = b"\0" * 16

WRONG: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "begins without GGUF"),
    "wrong magic": (gguf(magic=b"GGML"), "begins without GGUF"),
    "magic only": (b"GGUF", "version ends at byte 8, but the file has 4"),
    "2^60 tensors": (gguf(tensor_count=HUGE), f"tensor count is {HUGE}, but there is room for 0"),
    "2^60 entries": (gguf(entry_count=HUGE), f"metadata count is {HUGE}, but there is room for 0"),
    "2^63 tensors": (gguf(tensor_count=2**63), f"tensor count is {2**63}"),
    "key of 2^60": (
        gguf([struct.pack("<Q", HUGE)], entry_count=1, data=FOUR * 4),
        f"key is {HUGE} bytes long",
    ),
    "text of 2^60": (gguf([entry("k", STRING, struct.pack("<Q", HUGE))]), f"k is {HUGE} bytes long"),
    "array of 2^60 numbers": (gguf([array("k", UINT32, HUGE)]), f"k length is {HUGE}"),
    "array of 2^60 texts": (gguf([array("k", STRING, HUGE)]), f"k length is {HUGE}"),
    "array one too long": (gguf([array("k", UINT32, 12, FOUR)]), "k length is 12, but there is room for 11"),
    "text in array past the end": (
        gguf([array("k", STRING, 1, struct.pack("<Q", 99))], data=FOUR),
        "k ends at byte",
    ),
    "array of arrays": (gguf([array("k", ARRAY, 1, FOUR)]), "k is an array of arrays"),
    "unknown type": (gguf([entry("k", 99, FOUR)]), "k has the unknown type 99"),
    "array of an unknown type": (gguf([array("k", 99, 1, FOUR)]), "k is an array of the unknown type 99"),
    "key twice": (gguf([uint32("k", 1), uint32("k", 1)]), "'k' appears twice"),
    "key empty": (gguf([uint32("", 1)], data=FOUR), "metadata key is empty"),
    "key no UTF-8": (gguf([entry(b"\xff", UINT32, FOUR[:4])]), "not UTF-8"),
    "text no UTF-8": (gguf([entry("k", STRING, text(b"\xff"))]), "k is not UTF-8"),
    "text in array no UTF-8": (
        gguf([array("k", STRING, 1, text(b"\xff"))]),
        "k holds a string that is not UTF-8",
    ),
    "boolean 2": (gguf([entry("k", BOOL, b"\2")], data=FOUR), "k holds the boolean 2"),
    "boolean 2 in array": (gguf([array("k", BOOL, 1, b"\2")]), "k holds the boolean 2"),
    "alignment 0": (gguf([uint32("general.alignment", 0)]), "general.alignment is 0"),
    "alignment 24": (gguf([uint32("general.alignment", 24)]), "general.alignment is 24"),
    "alignment a text": (gguf([entry("general.alignment", STRING, text("32"))]), "general.alignment is '32'"),
    "alignment true": (gguf([entry("general.alignment", BOOL, b"\1")]), "general.alignment is True"),
    "tensor twice": (gguf(tensors=[tensor(), tensor()], data=FOUR), "tensor 'a' appears twice"),
    "tensor unnamed": (gguf(tensors=[tensor("")], data=FOUR), "tensor name is empty"),
    "no dimensions": (gguf(tensors=[tensor(sizes=())], data=FOUR * 4), "tensor a has 0 dimensions"),
    "five dimensions": (gguf(tensors=[tensor(sizes=(1,) * 5)], data=FOUR), "tensor a has 5 dimensions"),
    "2^32-1 dimensions": (
        gguf(tensors=[tensor(rank=2**32 - 1)], data=FOUR),
        "tensor a has 4294967295 dimensions",
    ),
    "a size of 0": (gguf(tensors=[tensor(sizes=(0, 4))], data=FOUR), r"tensor a has dimensions \(0, 4\)"),
    "sizes overflow": (gguf(tensors=[tensor(sizes=(2**63, 2))], data=FOUR), "tensor a has dimensions"),
    "sizes wrap to 4": (gguf(tensors=[tensor(sizes=(2**62 + 1, 4))], data=FOUR), "tensor a has dimensions"),
    "offset unaligned": (gguf(tensors=[tensor(offset=4)], data=FOUR * 3), "tensor a begins at 4"),
    "offset past the end": (
        gguf(tensors=[tensor(offset=2**40)], data=FOUR),
        "tensor a needs 16 bytes and .* has 0",
    ),
    "data cut off": (gguf(tensors=[tensor()], data=FOUR[:10]), "tensor a needs 16 bytes and the file has 10"),
    "data past the end": (
        gguf(tensors=[tensor(sizes=(2**40,))], data=FOUR),
        f"needs {2**42} bytes and the file has 16",
    ),
    "no whole blocks": (
        gguf(tensors=[tensor(sizes=(48,), kind=8)], data=FOUR * 4),
        "tensor a has rows of 48",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_header_that_lies_is_refused_before_it_is_believed(tmp_path: Path, case: str) -> None:
    raw, message = WRONG[case]
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointCorrupt, match=message) as raised:
            read_gguf(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (gguf(version=1), "version 1 is not known"),
        (gguf(version=4), "version 4 is not known"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (gguf(tensors=[tensor(kind=999)], data=FOUR), "tensor a has the ggml type number 999"),
        (gguf(tensors=[tensor(kind=24)], data=FOUR), "tensor a has the ggml type I8"),
        (gguf(tensors=[tensor(kind=15, sizes=(256,))], data=FOUR * 99), "tensor a has the ggml type Q8_K"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    with pytest.raises(Unsupported, match=message):
        read_gguf(path)


def test_arrays_of_a_huge_sparse_file_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    small = array("a", UINT8, 5, b"\0" * 5)
    path.write_bytes(gguf([small, array("k", UINT8, MAX_ELEMENTS - 4)]))
    with path.open("r+b") as file:
        file.truncate(1 << 36)
    message = f"k length is {MAX_ELEMENTS - 4}, but there is room for {MAX_ELEMENTS - 5}"
    with pytest.raises(CheckpointCorrupt, match=message):
        read_gguf_header(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [1, 32, 64])
def test_every_type_of_value_is_read(tmp_path: Path, version: int, alignment: int) -> None:
    path = tmp_path / "model.gguf"
    entries = [uint32("general.alignment", alignment)]
    expected: dict[str, Any] = {"general.alignment": alignment}
    codes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
    for kind, code in codes.items():
        value = 0.5 if code in "fd" else 7 if code.isupper() else -7
        entries.append(entry(f"one {kind}", kind, struct.pack("<" + code, value)))
        entries.append(array(f"many {kind}", kind, 3, struct.pack("<3" + code, value, 0, value)))
        expected[f"one {kind}"], expected[f"many {kind}"] = value, [value, 0, value]
    entries += [entry("yes", BOOL, b"\1"), array("flags", BOOL, 2, b"\0\1")]
    entries += [entry("text", STRING, text("ключ 🙂")), array("texts", STRING, 2, text("") + text("Ġa"))]
    entries += [array("none", FLOAT32, 0)]
    expected |= {"yes": True, "flags": [False, True], "text": "ключ 🙂", "texts": ["", "Ġa"], "none": []}
    raw = gguf(entries, [tensor(sizes=(4,))], FOUR, version=version, alignment=alignment)
    path.write_bytes(raw)
    header = read_gguf_header(path)
    assert header.metadata == expected
    assert header.version == version
    assert header.data_start == len(raw) - len(FOUR)
    assert {type(value) for value in header.metadata["flags"]} == {bool}


@given(
    strings=st.lists(st.text(max_size=20), max_size=30),
    numbers=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=30),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_what_the_library_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, strings: list[str], numbers: list[int], shape: list[int]
) -> None:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    writer = library.GGUFWriter(path, "llama")
    # The library leaves out what is empty.
    writer.add_string("text", "".join(strings))
    writer.add_array("texts", strings)
    writer.add_array("numbers", numbers)
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    writer.add_tensor("a", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = read_gguf(path)
    assert read.metadata.get("texts", []) == strings
    assert read.metadata.get("text", "") == "".join(strings)
    assert read.metadata["numbers"] == numbers
    np.testing.assert_array_equal(read.tensors["a"].read(), values)


def test_a_real_vocabulary_is_what_the_library_reads() -> None:
    path = models.smollm2()
    reader = library.GGUFReader(path)
    header = read_gguf_header(path)
    fields = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert list(header.metadata) == list(fields)
    for key, field in fields.items():
        value = header.metadata[key]
        # The library takes seconds for a whole vocabulary.
        if isinstance(value, list):
            assert len(value) == len(field.data)
            assert value[-99:] == field.contents(slice(-99, None))
        else:
            assert value == field.contents()
    assert {i.name: i.shape for i in header.tensors.values()} == {
        t.name: tuple(int(n) for n in t.shape[::-1]) for t in reader.tensors
    }
    assert {i.name: header.data_start + i.offset for i in header.tensors.values()} == {
        t.name: int(t.data_offset) for t in reader.tensors
    }


def test_a_header_may_come_before_data_that_is_cut_off() -> None:
    path = models.r1_header()
    header = read_gguf_header(path)
    assert header.metadata["general.architecture"] == "qwen2"
    with pytest.raises(CheckpointError, match=r"tensor \S+ needs \d+ bytes and the file has \d+ of them"):
        read_gguf(path)
