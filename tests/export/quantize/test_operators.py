"""ONNX Runtime reads packed weights as `Quantized.dequantize` does."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graph.onnxruntime_dialect import OLDEST_FOR_ODD_ZEROS
from export.quantize import Precision, Quantized, RoundToNearest
from export.quantize.method import Rows
from export.quantize.packing import pack

CASES = [
    (bits, block, zero_points) for bits in (4, 8) for block in (32, 64, 128) for zero_points in (False, True)
]
# 3 blocks, an odd number: the last 4-bit zero point of a row has a byte of its own.
OUTPUTS, BLOCKS = 24, 3


def quantized_rows(bits: int, block: int, zero_points: bool) -> Quantized:
    rows = np.random.default_rng(3).standard_normal((OUTPUTS, BLOCKS * block)).astype(np.float32)
    rows[0] = 0
    rows[1] = np.abs(rows[1])
    return RoundToNearest().quantize(rows, Precision(bits, block, zero_points))


def version(text: str) -> list[int]:
    return [int(part) for part in text.split(".")[:3]]


def run(
    op: str, feed: dict[str, np.ndarray], weights: dict[str, np.ndarray], inputs: list[str], **attributes: int
) -> Rows:
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], domain="com.microsoft", **attributes)],
        op,
        [helper.make_tensor_value_info(name, kinds[x.dtype], x.shape) for name, x in feed.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Rows = session.run(None, feed)[0]
    return result


@pytest.mark.parametrize(("bits", "block", "zero_points"), CASES)
def test_matmul_reads_what_was_packed(bits: int, block: int, zero_points: bool) -> None:
    quantized = quantized_rows(bits, block, zero_points)
    weights = {"b": pack(quantized.codes, bits), "scales": quantized.scales.reshape(-1)}
    if quantized.zeros is not None:
        weights["zeros"] = pack(quantized.zeros, bits).reshape(-1)
    inputs = BLOCKS * block
    x = np.random.default_rng(4).standard_normal((2, inputs)).astype(np.float32)
    y = run(
        "MatMulNBits",
        {"x": x},
        weights,
        ["x", *weights],
        K=inputs,
        N=OUTPUTS,
        bits=bits,
        block_size=block,
        accuracy_level=0,
    )
    expected = x.astype(np.float64) @ quantized.dequantize(bits).astype(np.float64).T
    np.testing.assert_allclose(y, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("bits", "block", "zero_points"), CASES)
def test_gather_reads_what_was_packed(bits: int, block: int, zero_points: bool) -> None:
    if bits == 4 and zero_points and version(onnxruntime.__version__) < version(OLDEST_FOR_ODD_ZEROS):
        pytest.skip(f"onnxruntime {onnxruntime.__version__} misreads rows with an odd number of zero points")
    quantized = quantized_rows(bits, block, zero_points)
    weights = {"b": pack(quantized.codes, bits).reshape(OUTPUTS, -1)}
    ids = np.array([[0, 1, OUTPUTS - 1, 7]])
    tail = {"scales": quantized.scales}
    if quantized.zeros is not None:
        tail["zeros"] = pack(quantized.zeros, bits)
    y = run(
        "GatherBlockQuantized",
        {"ids": ids},
        weights | tail,
        ["b", "ids", *tail],
        bits=bits,
        block_size=block,
        gather_axis=0,
        quantize_axis=1,
    )
    np.testing.assert_array_equal(y, quantized.dequantize(bits)[ids])
