"""What export packs is what the kernels read; and what the operators refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from export.graph.panels import VERSION, Panels, alternate
from export.quantize.method import Quantized
from runtimes.kernels.library import Library
from tests.runtimes.kernels.functions import Array, Functions, Shape


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    return Shape(
        rows=draw(st.integers(1, 40)),
        inputs=draw(st.integers(1, 300)),
        bits=draw(st.sampled_from([4, 5, 6, 8])),
        block=draw(st.sampled_from([32, 64, 128])),
        zero_points=draw(st.booleans()),
    )


def quantized(shape: Shape, rng: np.random.Generator) -> Quantized:
    """Rows of any codes, in float16 scales; what is behind the inputs stands for 0."""
    blocks = -(-shape.inputs // shape.block)
    codes = rng.integers(0, 1 << shape.bits, (shape.rows, blocks, shape.block), np.uint8)
    scales = rng.integers(-999, 999, (shape.rows, blocks)) * 2.0**-16
    scales = scales.astype(np.float16).astype(np.float32)
    zeros = rng.integers(0, 1 << shape.bits, (shape.rows, blocks), np.uint8) if shape.zero_points else None
    middle = np.full((shape.rows, blocks), 1 << (shape.bits - 1), np.uint8) if zeros is None else zeros
    behind = np.arange(blocks * shape.block).reshape(blocks, shape.block) >= shape.inputs
    return Quantized(np.where(behind, middle[..., None], codes), scales, zeros)


def panels(shape: Shape) -> Panels:
    blocks = -(-shape.inputs // shape.block)
    return Panels(bits=shape.bits, block=shape.block, blocks=blocks, zero_points=shape.zero_points)


def weights_of(shape: Shape, part: Quantized) -> Array:
    return part.dequantize(shape.bits)[:, : shape.inputs]


def rounding(shape: Shape, x: Array) -> Array:
    """Half a step of 8-bit codes for every input of x."""
    blocks = -(-shape.inputs // shape.block)
    filled = np.pad(np.abs(x), ((0, 0), (0, blocks * shape.block - shape.inputs)))
    largest = filled.reshape(len(x), blocks, shape.block).max(-1)
    return np.repeat(largest / 254 * 1.001, shape.block, axis=1)[:, : shape.inputs]


def product(shape: Shape, part: Quantized, x: Array) -> tuple[Array, Array]:
    """What the weights give for x in double precision, and how far 8-bit activations may lead from it."""
    w = weights_of(shape, part).astype(np.float64)
    slack = rounding(shape, x) @ np.abs(w).T + 1e-5 * np.abs(x) @ np.abs(w).T
    return x.astype(np.float64) @ w.T, slack


@given(shape=shapes(), rows=st.sampled_from([1, 2, 3, 5, 9, 130]), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_packed_weights_are_those_multiplied(
    functions: Functions, shape: Shape, rows: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    part = quantized(shape, rng)
    packed = panels(shape).pack(part)
    assert packed.nbytes == functions.nbytes(shape)
    x = rng.standard_normal((rows, shape.inputs), np.float32)
    bias = rng.standard_normal(shape.rows, np.float32)
    residual = rng.standard_normal((rows, shape.rows), np.float32)
    expected, slack = product(shape, part, x)
    outs = []
    for isa in functions.isas:
        functions.use(isa)
        outs.append(functions.linear(shape, packed, x, bias=bias, residual=residual))
        assert np.array_equal(outs[0], outs[-1]), isa
    assert (np.abs(outs[0] - (expected + bias + residual)) <= slack + 1e-5).all()


@given(shape=shapes(), seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_gate_and_up_in_turn(functions: Functions, shape: Shape, seed: int) -> None:
    rng = np.random.default_rng(seed)
    halves = [quantized(shape, rng), quantized(shape, rng)]
    both = Shape(**{**vars(shape), "rows": 2 * shape.rows, "gated": True})
    packed = alternate(*(panels(shape).pack(half) for half in halves))
    assert packed.nbytes == functions.nbytes(both)
    x = rng.standard_normal((3, shape.inputs), np.float32)
    (gate, gate_slack), (up, up_slack) = (product(shape, half, x) for half in halves)
    silu = gate / (1 + np.exp(-gate))
    slack = 1.1 * gate_slack * (np.abs(up) + up_slack) + np.abs(silu) * up_slack
    for isa in functions.isas:
        functions.use(isa)
        assert (np.abs(functions.linear(both, packed, x) - silu * up) <= slack + 1e-5).all(), isa


@given(shape=shapes(), seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_embedded_rows_are_exact(functions: Functions, shape: Shape, seed: int) -> None:
    rng = np.random.default_rng(seed)
    part = quantized(shape, rng)
    packed = panels(shape).pack(part)
    ids = rng.integers(0, shape.rows, 7)
    outcome, out = functions.embedding(shape, packed, ids)
    assert outcome == 0
    assert np.array_equal(out, weights_of(shape, part)[ids])
    assert functions.embedding(shape, packed, np.array([shape.rows]))[0] == 1
    assert functions.embedding(shape, packed, np.array([-1]))[0] == 1


@pytest.mark.parametrize(
    "change",
    [{"rows": 0}, {"inputs": 0}, {"bits": 7}, {"block": 16}, {"rows": 3, "gated": True}, {"rows": 1 << 40}],
)
def test_no_such_shape(functions: Functions, change: dict[str, Any]) -> None:
    shape: dict[str, Any] = {"rows": 16, "inputs": 32, "bits": 4, "block": 32, "zero_points": False}
    assert functions.nbytes(Shape(**shape)) > 0
    assert functions.nbytes(Shape(**shape | change)) == -1


SHAPE = Shape(rows=5, inputs=40, bits=4, block=32, zero_points=True)


def session(library: Library, operator: str, weights: Array, **attributes: Any) -> ort.InferenceSession:
    """One of our operators over `weights`, with the attributes of SHAPE unless others are given."""
    given = {**vars(SHAPE), "layout": VERSION, **attributes}
    if operator == "Linear":
        given |= {"epsilon": 1e-5}
    else:
        given.pop("gated")
    ints = {name: int(v) if isinstance(v, bool) else v for name, v in given.items()}
    kind = TensorProto.FLOAT if operator == "Linear" else TensorProto.INT64
    node = helper.make_node(operator, ["x", "w"], ["y"], domain="edgewise")
    # `inputs` is an attribute too.
    node.attribute.extend(helper.make_attribute(name, value) for name, value in ints.items())
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", kind, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(weights.reshape(-1), "w")],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("edgewise", 1)]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    library.register(options, 2)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture
def packed() -> Array:
    return panels(SHAPE).pack(quantized(SHAPE, np.random.default_rng(0)))


def test_the_operators_run(library: Library, functions: Functions, packed: Array) -> None:
    functions.use("auto")
    x = np.random.default_rng(1).standard_normal((2, 3, SHAPE.inputs)).astype(np.float32)
    [y] = session(library, "Linear", packed).run(None, {"x": x})
    assert y.shape == (2, 3, SHAPE.rows)
    assert np.array_equal(
        y.reshape(-1, SHAPE.rows), functions.linear(SHAPE, packed, x.reshape(-1, SHAPE.inputs))
    )
    [none] = session(library, "Linear", packed).run(None, {"x": x[:, :0]})
    assert none.shape == (2, 0, SHAPE.rows)
    ids = np.array([[4, 0]])
    [rows] = session(library, "Embedding", packed).run(None, {"x": ids})
    assert np.array_equal(rows[0], functions.embedding(SHAPE, packed, ids[0])[1])


@pytest.mark.parametrize("operator", ["Linear", "Embedding"])
def test_weights_of_another_size(library: Library, packed: Array, operator: str) -> None:
    x = np.zeros((1, SHAPE.inputs), np.float32) if operator == "Linear" else np.zeros(1, np.int64)
    with pytest.raises(
        Exception, match=rf"weights tensor .*\[{packed.nbytes - 64}\], expected {packed.nbytes} elements"
    ):
        session(library, operator, packed.reshape(-1)[:-64]).run(None, {"x": x})


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("operator", ["Linear", "Embedding"])
def test_weights_in_another_version_of_the_layout(
    library: Library, packed: Array, operator: str, version: int
) -> None:
    session(library, operator, packed, layout=3)
    with pytest.raises(
        Exception, match=rf"version {version} of the layout, this library reads version 3; install"
    ):
        session(library, operator, packed, layout=version)


@pytest.mark.parametrize(
    ("name", "value"), [("bits", 3), ("bits", 7), ("block", 48), ("rows", 0), ("inputs", -1)]
)
def test_a_matrix_that_cannot_be(library: Library, packed: Array, name: str, value: int) -> None:
    with pytest.raises(Exception, match=rf"{name} is .*export the artifact again"):
        session(library, "Linear", packed, **{name: value})


def test_x_of_another_width(library: Library, packed: Array) -> None:
    with pytest.raises(Exception, match=r"x has the shape \[1, 41\], expected \[\.\.\., 40\]"):
        session(library, "Linear", packed).run(None, {"x": np.zeros((1, 41), np.float32)})


@pytest.mark.parametrize("token", [5, -1, 1 << 40])
def test_a_token_outside_the_vocabulary(library: Library, packed: Array, token: int) -> None:
    with pytest.raises(Exception, match=rf"token {token} is not in the vocabulary of 5"):
        session(library, "Embedding", packed).run(None, {"x": np.array([0, token])})
