"""Tensors of a GGUF: every type the library unpacks, by rows, in the order Hugging Face has them."""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import CheckpointCorrupt, InvalidArgument
from export.checkpoint.gguf_file import read_gguf
from tests.checkpoints import interleave

WRITTEN = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0]
RANDOM_BITS = [
    Kind.Q2_K,
    Kind.Q3_K,
    Kind.Q4_K,
    Kind.Q5_K,
    Kind.Q6_K,
    Kind.TQ1_0,
    Kind.TQ2_0,
    Kind.MXFP4,
    Kind.IQ4_NL,
]
RANDOM_BITS += [
    Kind.IQ4_XS,
    Kind.IQ1_S,
    Kind.IQ1_M,
    Kind.IQ2_XXS,
    Kind.IQ2_XS,
    Kind.IQ2_S,
    Kind.IQ3_XXS,
    Kind.IQ3_S,
]
ROWS, COLUMNS = 24, 512


def write(path: Path, kind: Kind, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """A GGUF with the matrix "m" and the vector "v" of one type; returns the matrix."""
    random = np.random.default_rng(7)
    if kind in WRITTEN:
        raw = gguf.quants.quantize(random.standard_normal((rows, columns), np.float32), kind)
    else:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        raw = random.integers(0, 256, (rows, columns // block * size), np.uint8)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("before", np.ones(5, np.float32))
    writer.add_tensor("m", raw, raw_dtype=kind)
    writer.add_tensor("v", raw[0], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(raw, kind)


@pytest.mark.parametrize("kind", [*WRITTEN, *RANDOM_BITS], ids=lambda kind: kind.name)
def test_every_type_reads_as_the_library_unpacks_it(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "model.gguf"
    expected = write(path, kind)
    tensors = read_gguf(path).tensors
    matrix = tensors["m"]
    assert (matrix.dtype, matrix.shape) == (kind.name, (ROWS, COLUMNS))
    block, size = gguf.GGML_QUANT_SIZES[kind]
    assert matrix.nbytes == ROWS * COLUMNS // block * size
    np.testing.assert_array_equal(matrix.read(), expected)
    np.testing.assert_array_equal(matrix.rows(5, 7), expected[5:7])
    assert matrix.rows(5, 7).dtype == np.float32
    assert matrix.rows(5, 7).flags.c_contiguous
    np.testing.assert_array_equal(tensors["v"].read(), expected[0])
    np.testing.assert_array_equal(tensors["v"].rows(3, 300), expected[0, 3:300])


@given(
    data=st.data(),
    heads=st.integers(1, 4),
    half=st.integers(1, 4),
    kind=st.sampled_from([Kind.F32, Kind.Q8_0]),
)
def test_interleaved_rows_come_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, heads: int, half: int, kind: Kind
) -> None:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    rows = heads * half * 2
    stored = write(path, kind, rows, 32)
    tensor = read_gguf(path).tensors["m"].renamed("q", half * 2)
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    part = tensor.rows(start, stop)
    whole = tensor.read()
    np.testing.assert_array_equal(part, whole[start:stop])
    np.testing.assert_array_equal(interleave(whole, heads), stored)


def test_an_interleaved_bias_comes_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    stored = write(path, Kind.F32)[0]
    tensor = read_gguf(path).tensors["v"].renamed("bias", 16)
    np.testing.assert_array_equal(interleave(tensor.read(), COLUMNS // 16), stored)
    np.testing.assert_array_equal(tensor.rows(3, 40), tensor.read()[3:40])


def test_a_file_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write(path, Kind.F16)
    tensor = read_gguf(path).tensors["m"]
    os.truncate(path, tensor.stop - COLUMNS)
    tensor.rows(0, ROWS - 1)
    with pytest.raises(
        CheckpointCorrupt, match=f"tensor m needs {2 * COLUMNS} bytes and the file has {COLUMNS}"
    ):
        tensor.rows(ROWS - 1, ROWS)
    path.unlink()
    with pytest.raises(CheckpointCorrupt, match=r"model\.gguf: tensor m cannot be read"):
        tensor.rows(0, 1)


def test_rows_read_no_more_than_they_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    write(path, Kind.Q8_0)
    tensors = read_gguf(path).tensors
    read: list[int] = []
    original = np.fromfile

    def counted(file: object, dtype: object, count: int, **options: object) -> np.ndarray:
        read.append(count)
        return original(file, dtype, count, **options)

    monkeypatch.setattr(np, "fromfile", counted)
    tensors["m"].rows(3, 5)
    tensors["m"].renamed("q", 8).rows(9, 11)
    row = tensors["m"].nbytes // ROWS
    assert read == [2 * row, 8 * row]


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q5_0, Kind.Q8_0])
@pytest.mark.parametrize("head_dim", [0, 8])
def test_codes_stand_for_the_same_weights(kind: Kind, head_dim: int, tmp_path: Path) -> None:
    """Any bits that can be finite weights, not only what a quantizer writes."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(3).integers(0, 256, (ROWS, COLUMNS // block, size), np.uint8)
    raw[..., 1] &= 0xBB
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("m", raw.reshape(ROWS, -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensor = read_gguf(path).tensors["m"].renamed("m", head_dim)
    assert tensor.grid is not None
    for start, stop in ((0, ROWS), (3, 17), (5, 5)):
        codes = tensor.codes(start, stop)
        np.testing.assert_array_equal(codes.dequantize(tensor.grid.bits), tensor.rows(start, stop))
        assert codes.codes.max(initial=0) < 1 << tensor.grid.bits
    with pytest.raises(InvalidArgument, match="rows 3 to 99"):
        tensor.codes(3, 99)


def test_other_types_have_no_codes(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write(path, Kind.Q5_1)
    tensors = read_gguf(path).tensors
    assert tensors["m"].grid is tensors["v"].grid is None
    with pytest.raises(InvalidArgument, match="no codes on a grid"):
        tensors["m"].codes(0, 1)
