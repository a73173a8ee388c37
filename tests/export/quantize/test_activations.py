"""Rounded activations and what they cost, beside the operator that rounds them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.quantize import Precision
from export.quantize.activations import activation_error, relative, rounded_activations
from export.quantize.method import Rows
from export.quantize.packing import pack
from export.quantize.rtn import RoundToNearest


def product(rows: Rows, x: Rows, precision: Precision, level: int) -> tuple[Rows, Rows]:
    """What MatMulNBits gives for x, and the weights that it has."""
    found = RoundToNearest().quantize(rows, precision)
    node = helper.make_node(
        "MatMulNBits",
        ["x", "w", "s"],
        ["y"],
        domain="com.microsoft",
        K=rows.shape[1],
        N=len(rows),
        bits=precision.bits,
        block_size=precision.block,
        accuracy_level=level,
    )
    data = [
        onnx.numpy_helper.from_array(pack(found.codes, precision.bits), "w"),
        onnx.numpy_helper.from_array(found.scales.ravel(), "s"),
    ]
    io = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["tokens", width])
        for name, width in (("x", rows.shape[1]), ("y", len(rows)))
    ]
    graph = helper.make_graph([node], "g", io[:1], io[1:], data)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0], found.dequantize(precision.bits)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [32, 128])
def test_the_operator_rounds_so(bits: int, block: int) -> None:
    rng = np.random.default_rng(bits + block)
    rows = rng.standard_normal((48, 256), np.float32)
    x = np.asarray(rng.standard_t(3, (7, 256)), np.float32)
    y, weights = product(rows, x, Precision(bits, block), level=4)
    error = relative(y - x @ weights.T, x @ weights.T)
    assert error == pytest.approx(activation_error(x, weights, block), rel=0.05)
    np.testing.assert_allclose(y, rounded_activations(x, block) @ weights.T, atol=2e-4)


def test_a_part_of_a_block_and_zeros() -> None:
    x = np.zeros((2, 40), np.float32)
    x[0, 36] = -3
    np.testing.assert_array_equal(rounded_activations(x, 32), x)
    assert activation_error(x, np.ones((4, 40), np.float32), 32) == 0


def test_a_large_token_does_not_speak_for_all() -> None:
    exact = np.array([[1e6, 0], [1, 1]], np.float32)
    off = np.array([[0, 0], [0.1, 0.1]], np.float32)
    assert relative(off, exact) == pytest.approx(0.1 / np.sqrt(2))
