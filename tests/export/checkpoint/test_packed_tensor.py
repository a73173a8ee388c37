"""Packed matrices: every row beside codes that were packed here and are multiplied out number by number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import InvalidArgument
from export.checkpoint.packed import PackedTensor, packing_from_config, unpacked
from export.checkpoint.safetensors_file import safetensors_tensors
from export.quantize import Precision
from tests.export.checkpoint.packers import (
    AWQ,
    GPTQ,
    Arrays,
    Matrix,
    awq_parts,
    compressed_parts,
    compressed_tensors,
    gptq_parts,
    random_matrix,
    save,
)

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Group size, inputs, and the block that holds such groups as they are.
SHAPES = [
    (32, 96, 32),
    (64, 128, 64),
    (128, 256, 128),
    (256, 512, 128),
    (96, 192, 32),
    (192, 384, 64),
    (-1, 64, 64),
    (-1, 128, 128),
    (-1, 96, 32),
    (-1, 48, None),
    (16, 64, None),
    (48, 96, None),
]
shapes = st.sampled_from(SHAPES)
seeds = st.integers(0, 2**32 - 1)


def opened(folder: Path, settings: dict[str, Any], parts: Arrays) -> PackedTensor:
    save({f"m.{name}": array for name, array in parts.items()}, folder / "m.safetensors")
    packing = packing_from_config({"quantization_config": settings})
    tensors = unpacked(packing, safetensors_tensors(folder / "m.safetensors"))
    assert list(tensors) == ["m.weight"]
    tensor = tensors["m.weight"]
    assert isinstance(tensor, PackedTensor)
    assert tensor.nbytes == sum(array.nbytes for array in parts.values())
    return tensor


def holds(tensor: PackedTensor, matrix: Matrix, block: int | None, seed: int) -> None:
    """`tensor` gives the weights of `matrix`, whole and in parts, and its codes where `block` can hold them."""
    weights = matrix.weights()
    assert tensor.shape == weights.shape
    np.testing.assert_array_equal(tensor.read(), weights)
    start, stop = sorted(int(row) for row in np.random.default_rng(seed).integers(0, len(weights) + 1, 2))
    np.testing.assert_array_equal(tensor.rows(start, stop), weights[start:stop])
    if block is None:
        assert tensor.grid is None
        with pytest.raises(InvalidArgument, match=r"m\.weight"):
            tensor.codes(0, 1)
        return
    asymmetric = bool((matrix.zeros != 1 << (matrix.bits - 1)).any())
    assert tensor.grid == Precision(matrix.bits, block, asymmetric)
    for first, last in ((0, len(weights)), (start, stop)):
        part = tensor.codes(first, last)
        assert (part.zeros is not None) == asymmetric
        assert part.codes.dtype == np.uint8
        assert part.scales.dtype == np.float32
        assert part.codes.shape == (last - first, weights.shape[1] // block, block)
        assert part.scales.shape == part.codes.shape[:2]
        np.testing.assert_array_equal(part.codes, matrix.codes[first:last].reshape(part.codes.shape))
        if first < last:
            np.testing.assert_array_equal(part.dequantize(matrix.bits), weights[first:last])


@quick
@given(seed=seeds, shape=shapes, outputs=st.integers(1, 21), bits=st.sampled_from([4, 8]), data=st.data())
def test_gptq(tmp_path: Path, seed: int, shape: Any, outputs: int, bits: int, data: st.DataObject) -> None:
    group, inputs, block = shape
    v2, g_idx, symmetric = (data.draw(st.booleans(), name) for name in ("v2", "g_idx", "symmetric"))
    matrix = random_matrix(seed, outputs, inputs, bits=bits, group=group, symmetric=symmetric)
    config = {**GPTQ, "bits": bits, "group_size": group, "checkpoint_format": "gptq_v2" if v2 else "gptq"}
    holds(opened(tmp_path, config, gptq_parts(matrix, v2=v2, g_idx=g_idx)), matrix, block, seed)


@quick
@given(seed=seeds, bits=st.sampled_from([4, 8]), width=st.sampled_from([16, 32, 64]))
def test_gptq_in_order_of_activation(tmp_path: Path, seed: int, bits: int, width: int) -> None:
    matrix = random_matrix(seed, 5, 2 * width, bits=bits, group=width, shuffled=True)
    config = {**GPTQ, "bits": bits, "group_size": width, "desc_act": True}
    holds(opened(tmp_path, config, gptq_parts(matrix)), matrix, None, seed)


def test_whole_groups_in_another_order_are_a_grid(tmp_path: Path) -> None:
    matrix = random_matrix(3, 5, 96)
    matrix = Matrix(4, matrix.codes, matrix.zeros, matrix.scales, np.repeat(np.int32([2, 0, 1]), 32))
    holds(opened(tmp_path, {**GPTQ, "desc_act": True}, gptq_parts(matrix)), matrix, 32, 3)


@quick
@given(seed=seeds, shape=shapes, words=st.integers(1, 4))
def test_awq(tmp_path: Path, seed: int, shape: Any, words: int) -> None:
    group, inputs, block = shape
    matrix = random_matrix(seed, 8 * words, inputs, group=group)
    holds(opened(tmp_path, {**AWQ, "group_size": group}, awq_parts(matrix)), matrix, block, seed)


def test_awq_by_the_older_names_of_its_keys(tmp_path: Path) -> None:
    matrix = random_matrix(4, 16, 64, group=64, symmetric=True)
    config = {"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "version": "GEMM"}
    holds(opened(tmp_path, config, awq_parts(matrix)), matrix, 64, 4)


@quick
@given(
    seed=seeds,
    shape=shapes,
    outputs=st.integers(1, 21),
    bits=st.sampled_from([4, 8]),
    symmetric=st.booleans(),
    scale_type=st.sampled_from([np.float16, np.float32, ml_dtypes.bfloat16]),
    zeros=st.sampled_from(["packed", "int8"]),
)
def test_compressed_tensors(
    tmp_path: Path,
    seed: int,
    shape: Any,
    outputs: int,
    bits: int,
    symmetric: bool,
    scale_type: Any,
    zeros: str,
) -> None:
    group, inputs, block = shape
    # Scales of this size that bfloat16 holds float16 holds as well.
    matrix = random_matrix(
        seed, outputs, inputs, bits=bits, group=group, symmetric=symmetric, scale_type=np.float16
    )
    if scale_type is ml_dtypes.bfloat16:
        scales = np.where(np.abs(matrix.scales) < 1e-3, 0.5, matrix.scales)
        matrix = Matrix(
            bits, matrix.codes, matrix.zeros, scales.astype(scale_type).astype(np.float32), matrix.group_of
        )
    parts = compressed_parts(matrix, symmetric=symmetric, scale_type=scale_type, zeros=zeros)
    config = compressed_tensors(bits, group, symmetric=symmetric)
    holds(opened(tmp_path, config, parts), matrix, block, seed)


def test_two_schemes_go_by_what_a_matrix_is(tmp_path: Path) -> None:
    config = compressed_tensors(4, 32)
    config["config_groups"]["group_1"] = compressed_tensors(8, -1)["config_groups"]["group_0"]
    narrow, wide = (
        random_matrix(1, 6, 64, symmetric=True),
        random_matrix(2, 6, 64, bits=8, group=-1, symmetric=True),
    )
    holds(opened(tmp_path, config, compressed_parts(narrow, scale_type=np.float16)), narrow, 32, 1)
    holds(opened(tmp_path, config, compressed_parts(wide, scale_type=np.float16)), wide, 64, 2)


@pytest.mark.parametrize("trivial", [True, False])
def test_compressed_tensors_in_order_of_activation(tmp_path: Path, trivial: bool) -> None:
    matrix = random_matrix(5, 6, 96, symmetric=True, shuffled=not trivial)
    parts = compressed_parts(matrix)
    parts["weight_g_idx"] = np.full(96, -1, np.int32) if trivial else matrix.group_of
    config = compressed_tensors(actorder="group")
    holds(opened(tmp_path, config, parts), matrix, 32 if trivial else None, 5)


@pytest.mark.parametrize(
    ("scale", "scale_type"),
    [(0.1, np.float32), (1e-9, np.float32), (70000.0, np.float32), (2.0**-30, ml_dtypes.bfloat16)],
)
def test_a_scale_that_float16_does_not_hold_is_dequantized_only(
    tmp_path: Path, scale: float, scale_type: Any
) -> None:
    matrix = random_matrix(6, 4, 64, symmetric=True)
    assert opened(tmp_path, compressed_tensors(), compressed_parts(matrix, scale_type=np.float32)).grid
    matrix.scales[3, 1] = np.float32(scale_type(scale))
    parts = compressed_parts(matrix, scale_type=scale_type)
    matrix = Matrix(4, matrix.codes, matrix.zeros, parts["weight_scale"].astype(np.float32), matrix.group_of)
    holds(opened(tmp_path, compressed_tensors(), parts), matrix, None, 6)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 5), (3, 2)])
def test_rows_outside_are_refused(tmp_path: Path, start: int, stop: int) -> None:
    tensor = opened(tmp_path, GPTQ, gptq_parts(random_matrix(7, 4, 32)))
    for read in (tensor.rows, tensor.codes):
        with pytest.raises(InvalidArgument, match=r"m\.weight: rows"):
            read(start, stop)


def test_a_plain_tensor_has_no_grid(tmp_path: Path) -> None:
    save({"a.weight": np.ones((4, 32), np.float32)}, tmp_path / "m.safetensors")
    tensor = safetensors_tensors(tmp_path / "m.safetensors")["a.weight"]
    assert tensor.grid is None
    with pytest.raises(InvalidArgument, match=r"a\.weight"):
        tensor.codes(0, 1)
